import type { Base } from "@rootstock/service";
import type { Channel } from "../link/channel.ts";
import { type Following, SessionNotRunning } from "../runtimes/runtime.ts";
import type { OpenStream } from "./openStream.ts";
import { OutputFlow } from "./outputFlow.ts";

export interface LogStreamOptions {
  readonly channel: Channel;
  readonly streamId: string;
  /** Undefined when there is no such agent. */
  readonly follow: (onData: (data: Buffer) => void) => Promise<Following | undefined>;
  readonly onEnd: () => void;
}

/** One log that somebody follows. */
export class LogStream implements OpenStream {
  readonly #base: Base;
  readonly #options: LogStreamOptions;
  readonly #output: OutputFlow;
  #following: Following | undefined;
  #ended = false;

  constructor(base: Base, options: LogStreamOptions) {
    this.#base = base;
    this.#options = options;
    this.#output = new OutputFlow(base.clock, options.channel, options.streamId);
  }

  /** Begins in the background; a failure ends the stream with a code. */
  open(): void {
    this.#run().catch((err: unknown) => {
      if (err instanceof SessionNotRunning) return this.#end(404, "the agent is not running");
      this.#base.log.warn({ err }, "following a log failed");
      return this.#end(500, "the log could not be read");
    });
  }

  input(): void {}

  resize(): void {}

  credit(bytes: number): void {
    this.#output.credit(bytes);
  }

  leave(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#output.drop();
    this.#following?.close();
    this.#options.onEnd();
  }

  async #run(): Promise<void> {
    const following = await this.#options.follow((data) => this.#output.send(data));
    if (!following) return this.#end(404, "agent not found");
    this.#following = following;
    if (this.#ended) return following.close();
    this.#output.from(following);
    const { code, reason } = await following.ended;
    this.#end(code, reason);
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#output.finish();
    this.#options.channel.send({ type: "stream_close", streamId: this.#options.streamId, code, reason });
    this.leave();
  }
}
