import { type Clock, Pacer } from "@rootstock/service";
import type { Channel } from "../link/channel.ts";
import type { Following } from "../runtimes/runtime.ts";

/** Output goes out in pieces that every hub can read with their base64. */
const PIECE_BYTES = 32_768;
/** So much goes in small pieces, as keys are shown; what comes beyond it is put together. */
const AHEAD_BYTES = 8_192;
/** For so long: a socket takes each piece at once, and a terminal is read a few kilobytes at a time. */
const REST_MS = 1;
/** So much of one stream's output may wait for the socket; above it the source has to wait. */
const MAX_UNSENT_BYTES = 1_048_576;

/**
 * The output of one stream, on its way to the hub. Nothing piles up without bound: the source waits while the socket is
 * behind and, where the hub gives credits, until its reader has read.
 */
export class OutputFlow {
  readonly #clock: Clock;
  readonly #channel: Channel;
  readonly #streamId: string;
  #source: Pick<Following, "pause" | "resume"> | undefined;
  readonly #pacer: Pacer;
  /** What the hub still takes; below zero when the source had more under way when it was asked to wait. */
  #creditBytes: number;
  /** Of the pieces on their way: taken by the socket. */
  #takenBytes = 0;
  #paused = false;
  #ended = false;

  constructor(clock: Clock, channel: Channel, streamId: string) {
    this.#clock = clock;
    this.#channel = channel;
    this.#streamId = streamId;
    this.#creditBytes = channel.streamWindowBytes ?? Number.POSITIVE_INFINITY;
    this.#pacer = new Pacer({
      pieceBytes: PIECE_BYTES,
      aheadBytes: AHEAD_BYTES,
      transmit: (piece) => this.#transmit(piece),
    });
  }

  /** Where the output comes from. Some may have come before. */
  from(source: Pick<Following, "pause" | "resume">): void {
    this.#source = source;
    if (this.#paused) source.pause();
  }

  send(data: Buffer): void {
    if (this.#ended) return;
    this.#pacer.push(data);
    this.#creditBytes -= data.byteLength;
    if (this.#pacer.heldBytes < MAX_UNSENT_BYTES && this.#creditBytes > 0) return;
    this.#paused = true;
    this.#source?.pause();
  }

  /** The hub has passed on so many bytes. */
  credit(bytes: number): void {
    this.#creditBytes += bytes;
    this.#resumeWhenClear();
  }

  /** Sends what waits, and nothing more. */
  finish(): void {
    this.#pacer.flush();
    this.drop();
  }

  /** Sends nothing more: nobody is there to read it. */
  drop(): void {
    this.#ended = true;
  }

  #transmit(piece: Buffer): void {
    const { byteLength } = piece;
    this.#channel.send({ type: "stream", streamId: this.#streamId, data: piece.toString("base64") }, () => {
      if (this.#takenBytes === 0) this.#clock.after(REST_MS, () => this.#goOn());
      this.#takenBytes += byteLength;
    });
  }

  #goOn(): void {
    const bytes = this.#takenBytes;
    this.#takenBytes = 0;
    if (this.#ended) return;
    this.#pacer.done(bytes);
    this.#resumeWhenClear();
  }

  #resumeWhenClear(): void {
    if (!this.#paused || this.#creditBytes <= 0 || this.#pacer.heldBytes >= MAX_UNSENT_BYTES / 2) return;
    this.#paused = false;
    this.#source?.resume();
  }
}
