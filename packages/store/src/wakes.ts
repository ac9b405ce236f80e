import type { Uuid } from "@rootstock/protocol";

/** Runtime brokers that may have work, each with the agents for which messages wait; undefined: with whatever waits there. */
export interface ReadonlyWakes extends Iterable<Wake> {
  readonly size: number;
}

/** One runtime broker to look at. */
export type Wake = readonly [runtimeBrokerId: Uuid, agentIds: ReadonlySet<Uuid> | undefined];

/** What somebody is to look at, gathered until it is. */
export class Wakes implements ReadonlyWakes {
  readonly #agents = new Map<Uuid, Set<Uuid> | undefined>();

  /** How many runtime brokers. */
  get size(): number {
    return this.#agents.size;
  }

  /** A message waits for this agent at this runtime broker; without an agent: anything may. */
  add(runtimeBrokerId: Uuid, agentId?: Uuid): void {
    if (agentId === undefined) this.#agents.set(runtimeBrokerId, undefined);
    else if (!this.#agents.has(runtimeBrokerId)) this.#agents.set(runtimeBrokerId, new Set([agentId]));
    else this.#agents.get(runtimeBrokerId)?.add(agentId);
  }

  addAll(runtimeBrokerIds: Iterable<Uuid>): void {
    for (const id of runtimeBrokerIds) this.add(id);
  }

  merge(other: Iterable<Wake>): void {
    for (const [id, agentIds] of other) {
      if (agentIds === undefined) this.add(id);
      else for (const agentId of agentIds) this.add(id, agentId);
    }
  }

  delete(runtimeBrokerId: Uuid): boolean {
    return this.#agents.delete(runtimeBrokerId);
  }

  [Symbol.iterator](): Iterator<Wake> {
    return this.#agents.entries();
  }
}

/** Wakes for runtime brokers as a whole. */
export const wakesOf = (runtimeBrokerIds: Iterable<Uuid>): Wakes => {
  const wakes = new Wakes();
  wakes.addAll(runtimeBrokerIds);
  return wakes;
};
