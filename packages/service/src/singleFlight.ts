import type { Breather } from "./breather.ts";

/**
 * Runs `work` at most once at a time. A `poke` during a run makes it run once more afterwards, so that whoever pokes
 * after a fact has become true can rely on a run that began after it.
 */
export class SingleFlight {
  readonly #work: () => Promise<void>;
  readonly #onError: (err: unknown) => void;
  readonly #breather: Breather | undefined;
  #again = false;
  #running: Promise<void> | undefined;

  /**
   * With a breather, runs that follow each other leave it time in between. The second of them does not wait: one poke
   * during a run is no load yet.
   */
  constructor(work: () => Promise<void>, onError: (err: unknown) => void, breather?: Breather) {
    this.#work = work;
    this.#onError = onError;
    this.#breather = breather;
  }

  /** Resolves when a run that began after this call has ended. Never rejects. */
  poke(): Promise<void> {
    this.#again = true;
    this.#running ??= this.#drain();
    return this.#running;
  }

  /** Resolves when nothing runs. */
  idle(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  async #drain(): Promise<void> {
    try {
      // Begun within `poke`, work that pokes at once would not meet its own run, and begin a second one beside it.
      await undefined;
      for (let runs = 1; this.#again; runs += 1) {
        this.#again = false;
        const beganAt = this.#breather?.now() ?? 0;
        await this.#work().catch(this.#onError);
        if (this.#again && runs > 1) await this.#breather?.restAfter(beganAt);
      }
    } finally {
      this.#running = undefined;
    }
  }
}
