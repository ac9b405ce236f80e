import type { Log } from "./log.ts";

/**
 * Where parts meet that do not know each other: whoever has news calls `emit`, whoever wants it subscribes with `on`.
 * A listener that throws is logged and harms neither the others nor the source.
 */
export class Hook<T = void> {
  readonly #name: string;
  readonly #log: Log;
  readonly #listeners = new Set<{ readonly fn: (value: T) => void }>();

  constructor(name: string, log: Log) {
    this.#name = name;
    this.#log = log;
  }

  /** Calls `fn` for all later news, until the returned function is called. The same function may be added twice. */
  on(fn: (value: T) => void): () => void {
    const entry = { fn };
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  emit(value: T): void {
    for (const { fn } of [...this.#listeners]) {
      try {
        fn(value);
      } catch (err) {
        this.#log.error({ err, hook: this.#name }, "listener failed");
      }
    }
  }
}
