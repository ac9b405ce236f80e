import type { Base } from "@rootstock/service";
import type { Channel } from "../link/channel.ts";
import { type Attachment, SessionNotRunning, type TerminalSize } from "../runtimes/runtime.ts";

/** Output goes out in pieces that the original's hub can read with their base64. */
const MAX_CHUNK_BYTES = 32_768;
/** So much of this stream's output may be on its way to the hub; above it the terminal has to wait. */
const MAX_UNSENT_BYTES = 1_048_576;
/** Keyboard input that comes while the terminal is still being attached. */
const MAX_EARLY_INPUT_BYTES = 4_194_304;

export interface TerminalStreamOptions {
  readonly channel: Channel;
  readonly streamId: string;
  readonly size: TerminalSize;
  /** Undefined when there is no such agent. */
  readonly attach: (size: TerminalSize, onData: (data: Buffer) => void) => Promise<Attachment | undefined>;
  readonly onEnd: () => void;
}

/**
 * One terminal that somebody looks at. Nothing piles up without bound in either direction: a hub that gives credits has
 * the terminal wait until its viewer has read, and is told what input has been taken.
 */
export class TerminalStream {
  readonly #base: Base;
  readonly #options: TerminalStreamOptions;
  #attachment: Attachment | undefined;
  #size: TerminalSize;
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #unsentBytes = 0;
  /** What the hub still takes; below zero when the terminal had more under way when it was asked to wait. */
  #creditBytes: number;
  readonly #credits: boolean;
  #paused = false;
  #ended = false;

  constructor(base: Base, options: TerminalStreamOptions) {
    this.#base = base;
    this.#options = options;
    this.#size = options.size;
    const { streamWindowBytes } = options.channel;
    this.#credits = streamWindowBytes !== undefined;
    this.#creditBytes = streamWindowBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Attaches in the background; a failure ends the stream with a code (spec/01 3.7). */
  open(): void {
    this.#run().catch((err: unknown) => {
      if (err instanceof SessionNotRunning) return this.#end(404, "the agent is not running");
      this.#base.log.warn({ err }, "attaching to a terminal failed");
      return this.#end(500, "the terminal could not be attached");
    });
  }

  input(data: Buffer): void {
    if (this.#attachment) {
      this.#type(this.#attachment, data);
      return;
    }
    this.#earlyBytes += data.byteLength;
    if (this.#earlyBytes > MAX_EARLY_INPUT_BYTES) this.#end(1009, "input_overflow");
    else this.#early.push(data);
  }

  resize(size: TerminalSize): void {
    this.#size = size;
    this.#attachment?.resize(size);
  }

  /** The hub has passed on so many bytes of output. */
  credit(bytes: number): void {
    this.#creditBytes += bytes;
    this.#resumeWhenClear();
  }

  /** The viewer has left: nothing more is said. */
  leave(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#early = [];
    this.#attachment?.close();
    this.#options.onEnd();
  }

  async #run(): Promise<void> {
    const size = this.#size;
    const attachment = await this.#options.attach(size, (data) => this.#output(data));
    if (!attachment) return this.#end(404, "agent not found");
    this.#attachment = attachment;
    if (this.#ended) return attachment.close();
    if (this.#paused) attachment.pause();
    if (size !== this.#size) attachment.resize(this.#size);
    for (const data of this.#early.splice(0)) this.#type(attachment, data);
    const { code, reason } = await attachment.ended;
    this.#end(code, reason);
  }

  #output(data: Buffer): void {
    if (this.#ended) return;
    for (let at = 0; at < data.byteLength; at += MAX_CHUNK_BYTES) {
      const chunk = data.subarray(at, at + MAX_CHUNK_BYTES);
      this.#unsentBytes += chunk.byteLength;
      const frame = { type: "stream", streamId: this.#options.streamId, data: chunk.toString("base64") } as const;
      this.#options.channel.send(frame, () => {
        this.#unsentBytes -= chunk.byteLength;
        this.#resumeWhenClear();
      });
    }
    this.#creditBytes -= data.byteLength;
    if (this.#unsentBytes < MAX_UNSENT_BYTES && this.#creditBytes > 0) return;
    this.#paused = true;
    this.#attachment?.pause();
  }

  #resumeWhenClear(): void {
    if (!this.#paused || this.#creditBytes <= 0 || this.#unsentBytes >= MAX_UNSENT_BYTES / 2) return;
    this.#paused = false;
    this.#attachment?.resume();
  }

  #type(attachment: Attachment, data: Buffer): void {
    attachment.write(data, () => {
      if (this.#ended || !this.#credits) return;
      this.#options.channel.send({
        type: "stream_credit",
        streamId: this.#options.streamId,
        bytes: data.byteLength,
      });
    });
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#options.channel.send({ type: "stream_close", streamId: this.#options.streamId, code, reason });
    this.leave();
  }
}
