import type { Clock } from "./clock.ts";

/**
 * How long whoever works in batches waits before the next, in milliseconds, when more has come while the last was under
 * way: as long as that took, and no longer than `maxMs`. Under load each batch then serves twice as many; at rest, when
 * nothing has come meanwhile, nobody waits.
 */
export class Breather {
  readonly #clock: Clock;
  readonly #maxMs: number;

  constructor(clock: Clock, maxMs: number) {
    this.#clock = clock;
    this.#maxMs = maxMs;
  }

  /** By the clock's `elapsed`. */
  now(): number {
    return this.#clock.elapsed();
  }

  /** The pause after a batch that began at `beganAt`. */
  pauseAfter(beganAt: number): number {
    return Math.min(this.#maxMs, this.#clock.elapsed() - beganAt);
  }

  async restAfter(beganAt: number): Promise<void> {
    await this.#clock.sleep(this.pauseAfter(beganAt));
  }
}
