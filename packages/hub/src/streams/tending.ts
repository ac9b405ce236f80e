import type { Uuid } from "@rootstock/protocol";
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
    // What has changed since it was let in was told when it was not among the streams yet.
    else stream.recheck?.();
  }

  remove(stream: Tended): void {
    this.#streams.delete(stream);
  }

  /**
   * Rights have changed, those that hang on `id` or anybody's: whoever may not look on any more is not to wait for the
   * next minute.
   */
  recheck(id?: Uuid): void {
    this.#each((stream) => {
      if (id === undefined || (stream.standsBy?.has(id) ?? true)) stream.recheck?.(id);
    });
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
