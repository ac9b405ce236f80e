import type { Clock } from "@rootstock/service";

/** Answers kept at once, unless somebody says otherwise. */
const MOST_KEPT = 10_000;

/** Answers that are believed for a moment, so that what every call asks is not read at every call. */
export class Fresh<Key, Value> {
  readonly #clock: Clock;
  readonly #freshMs: number;
  readonly #read: (key: Key) => Promise<Value>;
  readonly #most: number;
  #kept = new Map<Key, { readonly at: number; readonly value: Promise<Value> }>();

  /** `freshMs`: how old, in milliseconds, an answer may be. `most`: how many are kept. */
  constructor(clock: Clock, freshMs: number, read: (key: Key) => Promise<Value>, most = MOST_KEPT) {
    this.#clock = clock;
    this.#freshMs = freshMs;
    this.#read = read;
    this.#most = most;
  }

  /** What is read of `key`, or was a moment ago. A failure is for whoever asked; the next one asks anew. */
  get(key: Key): Promise<Value> {
    const now = this.#clock.elapsed();
    const kept = this.#kept.get(key);
    if (kept && now - kept.at < this.#freshMs) return kept.value;
    const value = this.#read(key);
    const entry = { at: now, value };
    value.catch(() => this.#kept.get(key) === entry && this.#kept.delete(key));
    this.#kept.delete(key);
    this.#kept.set(key, entry);
    if (this.#kept.size > this.#most)
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    return value;
  }

  /** To be called when anything may have changed. */
  forgetAll(): void {
    // A map that is cleared leads from what it held to what it will hold: all of that would live until the next full
    // collection, and each small one would copy it, for 20 ms at a time.
    this.#kept = new Map();
  }

  /** To be called when what `key` stands for has changed. */
  forget(key: Key): void {
    this.#kept.delete(key);
  }
}
