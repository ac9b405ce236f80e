import { type Clock, onceAt, type Service, type Timer } from "@rootstock/service";
import type { Principal } from "../principal.ts";
import type { Facts, Rights } from "./facts.ts";

/**
 * Tells when time alone changes what somebody may do: policies hold from a moment on, or until one, and nothing else happens
 * then that would have open streams looked at.
 */
export class PolicyTimes implements Service {
  readonly #clock: Clock;
  /** When policies begin and end to hold, in milliseconds since 1970; most have no such times. */
  readonly #turns = new WeakMap<Rights, readonly number[]>();
  #turned: () => void = () => {};
  #next = Number.POSITIVE_INFINITY;
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Has `turned` called when a policy of somebody whose rights were looked at begins or ends to hold. */
  onTurn(turned: () => void): void {
    this.#turned = turned;
  }

  /** The principal, whose rights are followed from the first look at them on. */
  watch(principal: Principal): Principal {
    if ((principal.kind !== "user" && principal.kind !== "agent") || !principal.facts) return principal;
    const { facts } = principal;
    return { ...principal, facts: async () => this.#noted(await facts()) };
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#timer?.cancel();
  }

  #noted(facts: Facts): Facts {
    for (const at of this.#turnsOf(facts.rights)) if (at > facts.now && at < this.#next) this.#wait(at);
    return facts;
  }

  #turnsOf(rights: Rights): readonly number[] {
    let turns = this.#turns.get(rights);
    if (!turns) {
      // Until a moment is still at it.
      turns = rights.policies.flatMap(({ from, until }) => [from, until + 1]).filter(Number.isFinite);
      this.#turns.set(rights, turns);
    }
    return turns;
  }

  #wait(at: number): void {
    this.#timer?.cancel();
    this.#next = at;
    this.#timer = onceAt(this.#clock, at, () => {
      this.#next = Number.POSITIVE_INFINITY;
      this.#turned();
    });
  }
}
