import type { Breather } from "./breather.ts";
import type { Clock, Timer } from "./clock.ts";

export interface BatcherOptions {
  /** How long the first of a batch waits for others, in milliseconds; 0: only while others are under way. */
  readonly windowMs: number;
  /**
   * How long after a batch has begun the next one waits for others, in milliseconds; none by default. The first after a
   * pause goes at once, and a steady trickle goes in few batches.
   */
  readonly gapMs?: number;
  /** So many end the waiting; `maxItems` by default. */
  readonly eagerItems?: number;
  readonly maxItems: number;
  /** Batches under way at once. */
  readonly concurrency: number;
  /** Between a batch and those that came while it was under way. A full batch does not wait. */
  readonly breather?: Breather;
}

interface Waiting<T, R> {
  readonly item: T;
  readonly resolve: (result: R) => void;
  readonly reject: (err: unknown) => void;
}

/** Gathers what arrives within a few milliseconds and does it together. Each caller gets its own result. */
export class Batcher<T, R> {
  readonly #clock: Clock;
  readonly #options: BatcherOptions;
  readonly #work: (items: readonly T[]) => Promise<readonly R[]>;
  #waiting: Waiting<T, R>[] = [];
  #timer: Timer | undefined;
  /** When the first that waits has waited for long enough, by the clock's `elapsed`. */
  #due = 0;
  #begun = Number.NEGATIVE_INFINITY;
  #running = 0;
  #resting: Timer | undefined;
  #idle: (() => void)[] = [];

  /** `work` answers the items in their order. */
  constructor(clock: Clock, options: BatcherOptions, work: (items: readonly T[]) => Promise<readonly R[]>) {
    this.#clock = clock;
    this.#options = options;
    this.#work = work;
  }

  /** Resolves when the batch with this item is done; rejects with what the batch failed with. */
  add(item: T): Promise<R> {
    return new Promise((resolve, reject) => {
      const { windowMs, gapMs = 0 } = this.#options;
      if (this.#waiting.length === 0)
        this.#due = Math.max(this.#clock.elapsed() + windowMs, gapMs === 0 ? 0 : this.#begun + gapMs);
      this.#waiting.push({ item, resolve, reject });
      this.#schedule();
    });
  }

  /** Resolves when nothing waits or runs. */
  idle(): Promise<void> {
    if (this.#running === 0 && this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #schedule(): void {
    const { maxItems, eagerItems = maxItems } = this.#options;
    if (this.#waiting.length === 0) return;
    const wait = this.#waiting.length >= eagerItems ? 0 : this.#due - this.#clock.elapsed();
    if (wait <= 0) this.#pump();
    else this.#timer ??= this.#clock.after(wait, () => this.#pump());
  }

  #pump(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { concurrency, maxItems } = this.#options;
    const least = this.#resting ? maxItems : 1;
    while (this.#waiting.length >= least && this.#running < concurrency)
      void this.#run(this.#waiting.splice(0, this.#options.maxItems));
  }

  async #run(batch: readonly Waiting<T, R>[]): Promise<void> {
    const { breather } = this.#options;
    const beganAt = breather?.now() ?? 0;
    this.#running += 1;
    this.#begun = this.#clock.elapsed();
    try {
      const results = await this.#work(batch.map((w) => w.item));
      for (const [index, waiting] of batch.entries()) {
        const result = results[index];
        if (result === undefined) waiting.reject(new Error("a batch left an item unanswered"));
        else waiting.resolve(result);
      }
    } catch (err) {
      for (const waiting of batch) waiting.reject(err);
    } finally {
      this.#running -= 1;
      if (breather && this.#waiting.length > 0) this.#rest(breather.pauseAfter(beganAt));
      if (this.#options.gapMs) this.#schedule();
      else this.#pump();
      if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  #rest(ms: number): void {
    this.#resting ??= this.#clock.after(ms, () => {
      this.#resting = undefined;
      this.#pump();
    });
  }
}
