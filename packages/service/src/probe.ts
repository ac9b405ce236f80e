/** A fact that a part reports and that a test can wait for. Costs nothing while nobody listens. */
export class Probe<T> {
  readonly #listeners = new Set<(value: T) => void>();

  emit(value: T): void {
    for (const listener of this.#listeners) listener(value);
  }

  /** Calls `listener` for every later fact, until the returned function is called. */
  on(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The next fact that satisfies `accept`. */
  next(accept: (value: T) => boolean = () => true): Promise<T> {
    return new Promise((resolve) => {
      const off = this.on((value) => {
        if (!accept(value)) return;
        off();
        resolve(value);
      });
    });
  }
}
