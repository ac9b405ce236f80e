/**
 * Runs `work` at most once at a time. A `poke` during a run makes it run once more afterwards, so that whoever pokes
 * after a fact has become true can rely on a run that began after it.
 */
export class SingleFlight {
  readonly #work: () => Promise<void>;
  readonly #onError: (err: unknown) => void;
  #again = false;
  #running: Promise<void> | undefined;

  constructor(work: () => Promise<void>, onError: (err: unknown) => void) {
    this.#work = work;
    this.#onError = onError;
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
      while (this.#again) {
        this.#again = false;
        await this.#work().catch(this.#onError);
      }
    } finally {
      this.#running = undefined;
    }
  }
}
