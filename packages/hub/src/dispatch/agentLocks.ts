import type { Uuid } from "@rootstock/protocol";

/**
 * What happens to one agent on this replica now: lifecycle operations one at a time, and at most one message, never
 * beside an operation that halts the agent. Only the replica that holds the socket acts, so this memory is enough; what
 * must hold across replicas is in the statements.
 */
export class AgentLocks {
  readonly #lifecycle = new Map<Uuid, Promise<void>>();
  readonly #inFlight = new Map<Uuid, Promise<void>>();
  /** For each claim that is under way: on which agents operations have begun since. */
  readonly #begunSince = new Set<Set<Uuid>>();

  /** Agents with an operation under way or waiting for its turn. */
  operatedOn(): Uuid[] {
    return [...this.#lifecycle.keys()];
  }

  /** Agents for which no message must be claimed for now: an operation is under way, or a message is on the wire. */
  busy(): Uuid[] {
    return [...this.#lifecycle.keys(), ...this.#inFlight.keys()];
  }

  /** Whether a lifecycle operation is under way or waits for its turn. */
  inLifecycle(agentId: Uuid): boolean {
    return this.#lifecycle.has(agentId);
  }

  isBusy(agentId: Uuid): boolean {
    return this.#lifecycle.has(agentId) || this.#inFlight.has(agentId);
  }

  /**
   * Runs `claim`, which has the database claim messages. It can tell by `begunOn` on which agents an operation has begun
   * since: what was claimed for these is out of date, though the operation may be over when the claim is answered.
   */
  async claiming<T>(claim: (begunOn: (agentId: Uuid) => boolean) => Promise<T>): Promise<T> {
    const begun = new Set<Uuid>();
    this.#begunSince.add(begun);
    try {
      return await claim((agentId) => begun.has(agentId));
    } finally {
      this.#begunSince.delete(begun);
    }
  }

  /** Runs a lifecycle operation after those before it, and after the message that is on the wire. */
  async lifecycle<T>(agentId: Uuid, work: () => Promise<T>): Promise<T> {
    for (const begun of this.#begunSince) begun.add(agentId);
    const before = this.#lifecycle.get(agentId) ?? Promise.resolve();
    const run = before.then(async () => {
      await this.#inFlight.get(agentId);
      return work();
    });
    const ended = run.then(
      () => {},
      () => {},
    );
    this.#lifecycle.set(agentId, ended);
    try {
      return await run;
    } finally {
      if (this.#lifecycle.get(agentId) === ended) this.#lifecycle.delete(agentId);
    }
  }

  /** Puts a message on the wire. The claim saw to it that nothing else of the agent is. */
  async message<T>(agentId: Uuid, work: () => Promise<T>): Promise<T> {
    const run = work();
    const ended = run.then(
      () => {},
      () => {},
    );
    this.#inFlight.set(agentId, ended);
    try {
      return await run;
    } finally {
      if (this.#inFlight.get(agentId) === ended) this.#inFlight.delete(agentId);
    }
  }
}
