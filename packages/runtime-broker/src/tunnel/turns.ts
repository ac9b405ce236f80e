/** Lets one piece of work at a time through per key, in the order in which they were handed in. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** The place in the queue is taken when this is called, not later. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#last.set(key, mine);
    const done = () => {
      if (this.#last.get(key) === mine) this.#last.delete(key);
    };
    mine.then(done, done);
    return mine;
  }
}
