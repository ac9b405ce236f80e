import type { Random } from "./random.ts";

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Share of each wait that is random, 0 to 1. Without jitter a fleet redials in step. */
  readonly jitter?: number;
}

/** Growing waits between attempts: doubling from `firstMs` to `maxMs`. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: Random;
  #attempt = 0;

  constructor(options: BackoffOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  /** The next wait in milliseconds. */
  next(): number {
    const { firstMs, maxMs, jitter = 0.5 } = this.#options;
    const full = Math.min(maxMs, firstMs * 2 ** this.#attempt);
    this.#attempt += 1;
    return full * (1 - jitter) + full * jitter * this.#random.fraction();
  }

  /** To be called after a success. */
  reset(): void {
    this.#attempt = 0;
  }
}
