import type {
  StreamCloseFrame,
  StreamCreditFrame,
  StreamFrame,
  StreamOpenFrame,
  StreamResizeFrame,
} from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { Agents } from "../agents/agents.ts";
import type { Channel } from "../link/channel.ts";
import type { AgentPlace, Attachment, Following, TerminalSize } from "../runtimes/runtime.ts";
import { LogStream } from "./logStream.ts";
import { type OpenStream, STREAM_TYPES } from "./openStream.ts";
import { TerminalStream } from "./terminalStream.ts";

/** So many streams of one channel at once. */
const MAX_STREAMS = 256;

/** With how many of the lines that are there a followed log begins at most. */
const MAX_TAIL_LINES = 100_000;
/** So much of what its reader has had is looked for in a log. */
const MAX_MARK_BYTES = 4_096;

/** The terminals and logs that people look at through one hub (spec/01 3.7). They end with the channel they came over. */
export class AgentStreams {
  readonly #base: Base;
  readonly #agents: Agents;
  readonly #streams = new Map<Channel, Map<string, OpenStream>>();

  constructor(base: Base, agents: Agents) {
    this.#base = base;
    this.#agents = agents;
  }

  open(channel: Channel, frame: StreamOpenFrame): void {
    const { streamId } = frame;
    const streams = this.#streams.get(channel) ?? new Map<string, OpenStream>();
    this.#streams.set(channel, streams);
    const refusal = this.#refusal(frame, streams);
    if (refusal) {
      channel.send({ type: "stream_close", streamId, code: refusal[0], reason: refusal[1] });
      return;
    }
    const usual = { channel, streamId, onEnd: () => streams.delete(streamId) };
    const stream =
      frame.streamType === "logs"
        ? new LogStream(this.#base, { ...usual, follow: (onData) => this.#follow(frame, onData) })
        : new TerminalStream(this.#base, {
            ...usual,
            size: terminalSize(frame.cols, frame.rows),
            attach: (size, onData) => this.#attach(frame, size, onData),
          });
    streams.set(streamId, stream);
    stream.open();
  }

  /** How many are open, over all channels. */
  get size(): number {
    return [...this.#streams.values()].reduce((sum, streams) => sum + streams.size, 0);
  }

  input(channel: Channel, frame: StreamFrame): void {
    if (frame.data) this.#streams.get(channel)?.get(frame.streamId)?.input(Buffer.from(frame.data, "base64"));
  }

  resize(channel: Channel, frame: StreamResizeFrame): void {
    this.#streams.get(channel)?.get(frame.streamId)?.resize(terminalSize(frame.cols, frame.rows));
  }

  credit(channel: Channel, frame: StreamCreditFrame): void {
    this.#streams.get(channel)?.get(frame.streamId)?.credit(frame.bytes);
  }

  close(channel: Channel, frame: StreamCloseFrame): void {
    this.#streams.get(channel)?.get(frame.streamId)?.leave();
  }

  /** The channel is gone: nobody looks any more. */
  closeAll(channel: Channel): void {
    const streams = this.#streams.get(channel);
    this.#streams.delete(channel);
    for (const stream of [...(streams?.values() ?? [])]) stream.leave();
  }

  /** Close code and reason for a stream that is not opened. */
  #refusal(frame: StreamOpenFrame, open: ReadonlyMap<string, OpenStream>): readonly [number, string] | undefined {
    if (!STREAM_TYPES.some((type) => type === frame.streamType))
      return [400, `stream type ${frame.streamType} is not offered`];
    if (open.has(frame.streamId)) return [409, "the stream is open already"];
    return open.size >= MAX_STREAMS ? [1013, "too many streams"] : undefined;
  }

  async #attach(
    frame: StreamOpenFrame,
    size: TerminalSize,
    onData: (data: Buffer) => void,
  ): Promise<Attachment | undefined> {
    const place = this.#place(frame);
    return place && this.#agents.runtime.attach(place, { size, readonly: frame.readonly === true, onData });
  }

  async #follow(frame: StreamOpenFrame, onData: (data: Buffer) => void): Promise<Following | undefined> {
    const place = this.#place(frame);
    const after = frame.after ? Buffer.from(frame.after, "base64url").subarray(-MAX_MARK_BYTES) : undefined;
    const tail = Math.min(frame.tail ?? 0, MAX_TAIL_LINES);
    return place && this.#agents.runtime.follow(place, { tail, after, onData });
  }

  #place(frame: StreamOpenFrame): AgentPlace | undefined {
    const record = this.#agents.store.find(frame.slug, frame.projectId || frame.groveId || "");
    return record && this.#agents.place(record);
  }
}

/** What a terminal can be: a 0 from a hidden window, or a size that nobody's screen has, is brought into bounds. */
const terminalSize = (cols: number | null | undefined, rows: number | null | undefined): TerminalSize => ({
  cols: Math.min(Math.max(cols || 80, 2), 1000),
  rows: Math.min(Math.max(rows || 24, 2), 1000),
});
