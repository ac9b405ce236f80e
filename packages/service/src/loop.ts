import type { Log } from "./log.ts";
import type { Service } from "./service.ts";

/** The start/stop member of a part with one background loop. An error that escapes `run` is logged and ends the loop. */
export class Loop implements Service {
  readonly #name: string;
  readonly #log: Log;
  readonly #run: (signal: AbortSignal) => Promise<void>;
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(log: Log, name: string, run: (signal: AbortSignal) => Promise<void>) {
    this.#name = name;
    this.#log = log;
    this.#run = run;
  }

  async start(): Promise<void> {
    if (this.#abort) return;
    const abort = new AbortController();
    this.#abort = abort;
    this.#running = this.#run(abort.signal).catch((err: unknown) => {
      if (!abort.signal.aborted) this.#log.error({ err, loop: this.#name }, "loop ended by an error");
    });
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    this.#abort = undefined;
    await this.#running;
  }
}
