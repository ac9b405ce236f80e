import type { Base } from "@rootstock/service";
import type { Channel } from "../link/channel.ts";
import { type Attachment, SessionNotRunning, type TerminalSize } from "../runtimes/runtime.ts";
import type { OpenStream } from "./openStream.ts";
import { OutputFlow } from "./outputFlow.ts";

/** Keyboard input that comes while the terminal is still being attached. */
const MAX_EARLY_INPUT_BYTES = 4_194_304;
/** There is such an agent, and it has no terminal now. */
const AGENT_STOPPED = 4410;

export interface TerminalStreamOptions {
  readonly channel: Channel;
  readonly streamId: string;
  readonly size: TerminalSize;
  /** Undefined when there is no such agent. */
  readonly attach: (size: TerminalSize, onData: (data: Buffer) => void) => Promise<Attachment | undefined>;
  readonly onEnd: () => void;
}

/** One terminal that somebody looks at. A hub that gives credits is told what input has been taken. */
export class TerminalStream implements OpenStream {
  readonly #base: Base;
  readonly #options: TerminalStreamOptions;
  readonly #output: OutputFlow;
  readonly #credits: boolean;
  #attachment: Attachment | undefined;
  #size: TerminalSize;
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #ended = false;

  constructor(base: Base, options: TerminalStreamOptions) {
    this.#base = base;
    this.#options = options;
    this.#size = options.size;
    this.#output = new OutputFlow(base.clock, options.channel, options.streamId);
    this.#credits = options.channel.streamWindowBytes !== undefined;
  }

  /** Attaches in the background; a failure ends the stream with a code (spec/01 3.7, spec/08 1.6). */
  open(): void {
    this.#run().catch((err: unknown) => {
      if (err instanceof SessionNotRunning) return this.#end(AGENT_STOPPED, "agent_stopped");
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

  credit(bytes: number): void {
    this.#output.credit(bytes);
  }

  leave(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#early = [];
    this.#output.drop();
    this.#attachment?.close();
    this.#options.onEnd();
  }

  async #run(): Promise<void> {
    const size = this.#size;
    const attachment = await this.#options.attach(size, (data) => this.#output.send(data));
    if (!attachment) return this.#end(404, "agent not found");
    this.#attachment = attachment;
    if (this.#ended) return attachment.close();
    this.#output.from(attachment);
    if (size !== this.#size) attachment.resize(this.#size);
    for (const data of this.#early.splice(0)) this.#type(attachment, data);
    const { code, reason } = await attachment.ended;
    this.#end(code, reason);
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
    this.#output.finish();
    this.#options.channel.send({ type: "stream_close", streamId: this.#options.streamId, code, reason });
    this.leave();
  }
}
