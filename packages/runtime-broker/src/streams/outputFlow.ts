import type { Channel } from "../link/channel.ts";
import type { Following } from "../runtimes/runtime.ts";

/** Output goes out in pieces that the original's hub can read with their base64. */
const MAX_CHUNK_BYTES = 32_768;
/** So much of one stream's output may be on its way to the hub; above it the source has to wait. */
const MAX_UNSENT_BYTES = 1_048_576;

/**
 * The output of one stream, on its way to the hub. Nothing piles up without bound: the source waits while the socket is
 * behind and, where the hub gives credits, until its reader has read.
 */
export class OutputFlow {
  readonly #channel: Channel;
  readonly #streamId: string;
  #source: Pick<Following, "pause" | "resume"> | undefined;
  #unsentBytes = 0;
  /** What the hub still takes; below zero when the source had more under way when it was asked to wait. */
  #creditBytes: number;
  #paused = false;
  #ended = false;

  constructor(channel: Channel, streamId: string) {
    this.#channel = channel;
    this.#streamId = streamId;
    this.#creditBytes = channel.streamWindowBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Where the output comes from. Some may have come before. */
  from(source: Pick<Following, "pause" | "resume">): void {
    this.#source = source;
    if (this.#paused) source.pause();
  }

  send(data: Buffer): void {
    if (this.#ended) return;
    for (let at = 0; at < data.byteLength; at += MAX_CHUNK_BYTES) {
      const chunk = data.subarray(at, at + MAX_CHUNK_BYTES);
      this.#unsentBytes += chunk.byteLength;
      const frame = { type: "stream", streamId: this.#streamId, data: chunk.toString("base64") } as const;
      this.#channel.send(frame, () => {
        this.#unsentBytes -= chunk.byteLength;
        this.#resumeWhenClear();
      });
    }
    this.#creditBytes -= data.byteLength;
    if (this.#unsentBytes < MAX_UNSENT_BYTES && this.#creditBytes > 0) return;
    this.#paused = true;
    this.#source?.pause();
  }

  /** The hub has passed on so many bytes. */
  credit(bytes: number): void {
    this.#creditBytes += bytes;
    this.#resumeWhenClear();
  }

  /** Sends nothing more. */
  end(): void {
    this.#ended = true;
  }

  #resumeWhenClear(): void {
    if (!this.#paused || this.#creditBytes <= 0 || this.#unsentBytes >= MAX_UNSENT_BYTES / 2) return;
    this.#paused = false;
    this.#source?.resume();
  }
}
