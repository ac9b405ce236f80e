import { type Base, Loop, type Service } from "@rootstock/service";
import type { Tended } from "./agentStream.ts";

const TICK_MS = 1_000;

/** Looks after the open streams of a replica: keep-alive and time limits of all of them hang on one timer. */
export class Tending implements Service {
  readonly #base: Base;
  readonly #streams = new Set<Tended>();
  readonly #loop: Loop;
  #stopped = false;

  constructor(base: Base) {
    this.#base = base;
    this.#loop = new Loop(base.log, "streams", async (signal) => {
      while (!signal.aborted) {
        await base.clock.sleep(TICK_MS, signal);
        const now = base.clock.elapsed();
        this.#each((stream) => stream.tick(now));
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

  /** Somebody's rights have changed: whoever may not look on any more is not to wait for the next minute. */
  recheck(): void {
    this.#each((stream) => stream.recheck?.());
  }

  start(): Promise<void> {
    this.#stopped = false;
    return this.#loop.start();
  }

  /** Ends every stream, and takes no more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop.stop();
    this.#each((stream) => stream.shutDown());
  }

  /** One that fails must not keep the others from their turn. */
  #each(work: (stream: Tended) => void): void {
    for (const stream of [...this.#streams]) {
      try {
        work(stream);
      } catch (err) {
        this.#base.log.error({ err }, "looking after a stream failed");
      }
    }
  }
}
