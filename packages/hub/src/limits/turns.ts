import type { Clock } from "@rootstock/service";

/** How long one waits for a turn. */
export interface Patience {
  readonly waitMs: number;
  /** Aborts when nobody waits for it any more. Asked for by those alone whose turn is not now. */
  readonly gone: () => AbortSignal;
}

/**
 * A few places, given in turns to those who ask, one to each of them at a time. Who has asked thousands of times comes up
 * as often as who has asked once, and neither to take a turn nor to give up costs more for it.
 */
export class Turns {
  readonly #clock: Clock;
  readonly #places: number;
  /** Who has a place now. */
  readonly #placed = new Set<string>();
  /** What starts those who wait, in the order in which each has asked. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** Who of them has no place, whoever comes up next first. */
  readonly #next = new Set<string>();

  constructor(clock: Clock, places: number) {
    this.#clock = clock;
    this.#places = places;
  }

  /** Whether `whom` has a place now, to be given back with {@link leave}; false when none has come up in time. */
  take(whom: string, { waitMs, gone }: Patience): Promise<boolean> {
    // Where a place is free nobody waits for it.
    if (this.#placed.size < this.#places && !this.#placed.has(whom)) {
      this.#placed.add(whom);
      return Promise.resolve(true);
    }
    const signal = gone();
    if (signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = (placed: boolean): void => {
        timer.cancel();
        signal.removeEventListener("abort", giveUp);
        this.#forget(whom, start);
        resolve(placed);
      };
      const start = () => end(true);
      const giveUp = () => end(false);
      const timer = this.#clock.after(waitMs, giveUp);
      signal.addEventListener("abort", giveUp, { once: true });
      const own = this.#waiting.get(whom);
      if (own) own.add(start);
      else this.#waiting.set(whom, new Set([start]));
      if (!this.#placed.has(whom)) this.#next.add(whom);
    });
  }

  /** Gives the place of `whom` to whoever comes up next; what else they wait for comes behind all others. */
  leave(whom: string): void {
    this.#placed.delete(whom);
    if (this.#waiting.has(whom)) this.#next.add(whom);
    for (const next of this.#next) {
      if (this.#placed.size >= this.#places) return;
      this.#next.delete(next);
      this.#placed.add(next);
      const [start] = this.#waiting.get(next) ?? [];
      start?.();
    }
  }

  #forget(whom: string, start: () => void): void {
    const own = this.#waiting.get(whom);
    own?.delete(start);
    if (own?.size !== 0) return;
    this.#waiting.delete(whom);
    this.#next.delete(whom);
  }
}
