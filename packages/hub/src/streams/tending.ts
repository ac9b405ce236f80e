import { type Base, Loop, type Service } from "@rootstock/service";
import type { Tended } from "./terminal.ts";

const TICK_MS = 1_000;

/** Looks after the open streams of a replica: keep-alive and time limits of all of them hang on one timer. */
export class Tending implements Service {
  readonly #streams = new Set<Tended>();
  readonly #loop: Loop;
  #stopped = false;

  constructor(base: Base) {
    this.#loop = new Loop(base.log, "streams", async (signal) => {
      while (!signal.aborted) {
        await base.clock.sleep(TICK_MS, signal);
        const now = base.clock.elapsed();
        for (const stream of [...this.#streams]) stream.tick(now);
      }
    });
  }

  /** Whether new streams are taken. */
  get open(): boolean {
    return !this.#stopped;
  }

  get size(): number {
    return this.#streams.size;
  }

  add(stream: Tended): void {
    this.#streams.add(stream);
    // Opened while the replica was stopping.
    if (this.#stopped) stream.shutDown();
  }

  remove(stream: Tended): void {
    this.#streams.delete(stream);
  }

  start(): Promise<void> {
    this.#stopped = false;
    return this.#loop.start();
  }

  /** Ends every stream, and takes no more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop.stop();
    for (const stream of [...this.#streams]) stream.shutDown();
  }
}
