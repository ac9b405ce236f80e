import type { Service } from "./service.ts";

/**
 * The start/stop member of a part whose start or stop takes time: calls run one after the other, and one that changes
 * nothing does nothing. When `begin` throws, the part counts as stopped and `begin` must have cleaned up.
 */
export class Lifecycle implements Service {
  readonly #begin: () => Promise<void>;
  readonly #end: () => Promise<void>;
  #running = false;
  #last: Promise<void> = Promise.resolve();

  constructor(begin: () => Promise<void>, end: () => Promise<void>) {
    this.#begin = begin;
    this.#end = end;
  }

  start(): Promise<void> {
    return this.#next(async () => {
      if (this.#running) return;
      await this.#begin();
      this.#running = true;
    });
  }

  stop(): Promise<void> {
    return this.#next(async () => {
      if (!this.#running) return;
      this.#running = false;
      await this.#end();
    });
  }

  #next(step: () => Promise<void>): Promise<void> {
    const run = this.#last.then(step);
    this.#last = run.catch(() => {});
    return run;
  }
}
