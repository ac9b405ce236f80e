import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";

const WINDOW_MS = 60_000;
/** Displacements within the window that pass: a network may well fail a few times. */
const ALLOWED = 5;
const FIRST_DELAY_MS = 1_000;
const MAX_DELAY_MS = 30_000;
/** So many runtime brokers in memory are worth a look at which of them still flap. */
const MANY = 1_000;

/**
 * Two machines with one credential displace each other for ever, as each redials within milliseconds. After a few times
 * a minute the handshake waits, longer each time, so that they cost little and one of them works for a while.
 */
export class FlapGuard {
  readonly #clock: Clock;
  readonly #displacements = new Map<Uuid, number[]>();
  #total = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Notes that a claim took the runtime broker from a socket that had not been given up. */
  displaced(runtimeBrokerId: Uuid): void {
    this.#total += 1;
    if (this.#displacements.size >= MANY) this.#prune();
    this.#displacements.set(runtimeBrokerId, [...this.#recent(runtimeBrokerId), this.#clock.elapsed()]);
  }

  /** How long the next handshake of this runtime broker is to wait, in milliseconds; 0 as a rule. */
  delayMs(runtimeBrokerId: Uuid): number {
    const excess = this.#recent(runtimeBrokerId).length - ALLOWED;
    return excess < 0 ? 0 : Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** excess);
  }

  /** Displacements since the start. */
  get total(): number {
    return this.#total;
  }

  /** Forgets what is too old to matter. */
  #prune(): void {
    for (const id of this.#displacements.keys()) this.#recent(id);
  }

  #recent(runtimeBrokerId: Uuid): readonly number[] {
    const after = this.#clock.elapsed() - WINDOW_MS;
    const recent = (this.#displacements.get(runtimeBrokerId) ?? []).filter((at) => at > after);
    if (recent.length === 0) this.#displacements.delete(runtimeBrokerId);
    return recent;
  }
}
