import type { Uuid } from "@rootstock/protocol";
import { type AgentAt, type HeldSocket, type ReadonlyWakes, Wakes } from "@rootstock/store";
import type { Registry } from "../control/index.ts";

/** The sockets of a round. */
export interface Sockets {
  /** For which intents are looked for. */
  readonly intents: readonly HeldSocket[];
  /** For which messages are looked for, whichever agents they are for. */
  readonly messages: readonly HeldSocket[];
  /** For which messages are looked for to these agents alone. */
  readonly some: readonly HeldSocket[];
  readonly agents: readonly AgentAt[];
}

/** The runtime brokers held here for which something may wait, until a round takes them. */
export class WokenSockets {
  readonly #registry: Registry;
  #woken = new Wakes();
  /** What was woken while its socket had no room: whatever leaves the wire there wakes it again. */
  readonly #crowded = new Wakes();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  get any(): boolean {
    return this.#woken.size > 0;
  }

  /** Something may wait for these. Those whose socket is elsewhere are ignored. */
  wake(wakes: ReadonlyWakes): void {
    for (const wake of wakes) if (this.#registry.get(wake[0])) this.#woken.merge([wake]);
  }

  /** More waits for this agent. */
  add({ runtimeBrokerId, agentId }: AgentAt): void {
    this.#woken.addMessage(runtimeBrokerId, agentId);
  }

  /** There is room on this socket again. True when something was turned away for want of it. */
  hasRoom(runtimeBrokerId: Uuid): boolean {
    return this.#crowded.delete(runtimeBrokerId);
  }

  /** The woken runtime brokers with room on their sockets. What occupies the others may be no work of ours. */
  take(): Sockets {
    const intents: HeldSocket[] = [];
    const messages: HeldSocket[] = [];
    const some: HeldSocket[] = [];
    const agents: AgentAt[] = [];
    for (const [runtimeBrokerId, waiting] of this.#woken) {
      const connection = this.#registry.get(runtimeBrokerId);
      this.#crowded.delete(runtimeBrokerId);
      if (!connection?.isOpen) continue;
      const slots = connection.limits.concurrentRequests - connection.inFlight();
      const socket = { runtimeBrokerId, sessionId: connection.sessionId, slots };
      const agentIds = waiting.messages === "any" ? [] : [...waiting.messages];
      if (slots <= 0 || agentIds.length > slots) this.#crowded.merge([[runtimeBrokerId, waiting]]);
      if (slots <= 0) continue;
      if (waiting.intents) intents.push(socket);
      if (waiting.messages === "any") messages.push(socket);
      if (agentIds.length > 0) some.push(socket);
      for (const agentId of agentIds.slice(0, slots)) agents.push({ agentId, runtimeBrokerId });
    }
    this.#woken = new Wakes();
    return { intents, messages, some, agents };
  }
}
