import type { Uuid } from "@rootstock/protocol";

/** Runtime brokers that may have work, each with what may wait there. */
export interface ReadonlyWakes extends Iterable<Wake> {
  readonly size: number;
}

/** One runtime broker to look at. */
export type Wake = readonly [runtimeBrokerId: Uuid, waiting: Waiting];

/** What may wait at a runtime broker. */
export interface Waiting {
  readonly intents: boolean;
  /** Messages of these agents, or of whichever. */
  readonly messages: ReadonlySet<Uuid> | "any";
}

/** As {@link Waiting}, while it is gathered. */
interface Gathered {
  intents: boolean;
  messages: Set<Uuid> | "any";
}

/** What somebody is to look at, gathered until it is. */
export class Wakes implements ReadonlyWakes {
  readonly #waiting = new Map<Uuid, Gathered>();

  /** How many runtime brokers. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Anything may wait at this runtime broker. */
  add(runtimeBrokerId: Uuid): void {
    this.#waiting.set(runtimeBrokerId, { intents: true, messages: "any" });
  }

  addAll(runtimeBrokerIds: Iterable<Uuid>): void {
    for (const id of runtimeBrokerIds) this.add(id);
  }

  /** An intent waits for this runtime broker. */
  addIntent(runtimeBrokerId: Uuid): void {
    this.#at(runtimeBrokerId).intents = true;
  }

  /** A message waits for this agent at this runtime broker. */
  addMessage(runtimeBrokerId: Uuid, agentId: Uuid): void {
    const { messages } = this.#at(runtimeBrokerId);
    if (messages !== "any") messages.add(agentId);
  }

  merge(other: Iterable<Wake>): void {
    for (const [id, { intents, messages }] of other) {
      if (intents) this.addIntent(id);
      if (messages === "any") this.#at(id).messages = "any";
      else for (const agentId of messages) this.addMessage(id, agentId);
    }
  }

  delete(runtimeBrokerId: Uuid): boolean {
    return this.#waiting.delete(runtimeBrokerId);
  }

  [Symbol.iterator](): Iterator<Wake> {
    return this.#waiting.entries();
  }

  #at(runtimeBrokerId: Uuid): Gathered {
    const known = this.#waiting.get(runtimeBrokerId);
    if (known) return known;
    const nothing: Gathered = { intents: false, messages: new Set() };
    this.#waiting.set(runtimeBrokerId, nothing);
    return nothing;
  }
}

/** Wakes for runtime brokers as a whole. */
export const wakesOf = (runtimeBrokerIds: Iterable<Uuid>): Wakes => {
  const wakes = new Wakes();
  wakes.addAll(runtimeBrokerIds);
  return wakes;
};

/** A wake for the intents of one runtime broker. */
export const intentAt = (runtimeBrokerId: Uuid): Wakes => {
  const wakes = new Wakes();
  wakes.addIntent(runtimeBrokerId);
  return wakes;
};
