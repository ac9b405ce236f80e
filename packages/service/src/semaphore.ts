/** Lets at most `limit` callers through at a time, in order of arrival. */
export class Semaphore {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #held = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#held >= this.#limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#held += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // The place passes to the next caller directly: counting it free first would let a newcomer overtake.
      if (next) next();
      else this.#held -= 1;
    }
  }
}
