import type { ControlOptions, PeerLimits } from "./options.ts";

/** What arrives on a stream. */
export interface StreamHandler {
  /** Output. Whoever takes it says `consumed` once it is out of memory. */
  onData(data: Buffer): void;
  /** So many bytes of input have left this process, or were taken at the other end where that can be known. */
  onTaken(bytes: number): void;
  /** The stream has ended, on the other side or with the socket. Called once; nothing follows. */
  onClose(end: StreamEnd): void;
}

export interface StreamEnd {
  readonly reason: string;
  /** As the runtime broker said; undefined when the stream was lost with its socket. */
  readonly code: number | undefined;
}

/** What is opened at the runtime broker (spec/01 3.7). */
export type StreamRequest = { readonly slug: string; readonly projectId: string } & (
  | {
      readonly streamType: "pty";
      readonly cols: number;
      readonly rows: number;
      /** The viewer only looks: our own runtime broker keeps the terminal's size as it is. */
      readonly readonly?: boolean;
    }
  | {
      /** For runtime brokers with `logStreams` only: others ignore it without a word. */
      readonly streamType: "logs";
      readonly tail: number;
      /** The `LogPlace` after which it goes on instead, if that is still there; base64url. */
      readonly after?: string;
    }
);

/** This end of one stream. After its end every call is a no-op. */
export interface StreamHandle {
  readonly streamId: string;
  /** Sends bytes, in as many frames as the runtime broker's limit asks for. False when the stream has ended. */
  write(data: Uint8Array): boolean;
  resize(cols: number, rows: number): void;
  /** So many bytes of output are out of memory: as many more may come. */
  consumed(bytes: number): void;
  close(reason: string, code?: number): void;
}

/** Sends a frame; `sent` is called once it has left this process. False when the socket takes nothing any more. */
export type SendFrame = (frame: object, sent?: () => void) => boolean;

/** Room in a frame for everything but the data. */
const FRAME_OVERHEAD_BYTES = 256;
/** Which part of a window makes a credit: fewer frames than one per piece, and the sender never has to wait for it. */
const CREDITS_PER_WINDOW = 4;

/** Closing a stream whose reader does not read (spec/08 1.6). */
const SLOW_CONSUMER: StreamEnd = { code: 1013, reason: "slow_consumer" };

interface OpenStream {
  readonly handler: StreamHandler;
  readonly credits: boolean;
  /** Output that was handed on and not reported as consumed. */
  unread: number;
  /** Consumed, and not yet told to the runtime broker. */
  owed: number;
}

/** The streams of one socket. */
export class Streams {
  readonly #send: SendFrame;
  readonly #options: Pick<ControlOptions, "streamWindowBytes" | "streamLimitBytes">;
  readonly #open = new Map<string, OpenStream>();

  constructor(send: SendFrame, options: Pick<ControlOptions, "streamWindowBytes" | "streamLimitBytes">) {
    this.#send = send;
    this.#options = options;
  }

  open(streamId: string, request: StreamRequest, limits: PeerLimits, handler: StreamHandler): StreamHandle {
    const stream: OpenStream = { handler, credits: limits.streamCredits, unread: 0, owed: 0 };
    this.#open.set(streamId, stream);
    // Old runtime brokers read one name of the project, new ones the other.
    this.#send({ type: "stream_open", streamId, ...request, groveId: request.projectId });
    const chunkBytes = Math.floor((limits.maxFrameBytes - FRAME_OVERHEAD_BYTES) / 4) * 3;
    const isOpen = () => this.#open.get(streamId) === stream;
    return {
      streamId,
      write: (data) => {
        for (let at = 0; at < data.byteLength; at += chunkBytes) {
          if (!isOpen()) return false;
          const chunk = Buffer.from(data.subarray(at, at + chunkBytes));
          // One that gives credit says itself what it has taken; of the others no more can be known than this.
          const sent = stream.credits ? undefined : () => isOpen() && handler.onTaken(chunk.byteLength);
          if (!this.#send({ type: "stream", streamId, data: chunk.toString("base64") }, sent)) return false;
        }
        return isOpen();
      },
      resize: (cols, rows) => {
        if (isOpen()) this.#send({ type: "stream_resize", streamId, cols, rows });
      },
      consumed: (bytes) => {
        if (isOpen()) this.#consumed(streamId, stream, bytes);
      },
      close: (reason, code) => {
        if (isOpen()) this.#close(streamId, stream, { reason, code });
      },
    };
  }

  get size(): number {
    return this.#open.size;
  }

  /** Bytes for a stream. One that is not open here is nobody's: it was closed while they were under way. */
  data(streamId: string, base64: string): void {
    const stream = this.#open.get(streamId);
    if (!stream) return;
    const data = Buffer.from(base64, "base64");
    stream.unread += data.byteLength;
    if (stream.unread > this.#options.streamLimitBytes) this.#close(streamId, stream, SLOW_CONSUMER);
    else stream.handler.onData(data);
  }

  /** The runtime broker has taken so much of a stream's input. */
  credit(streamId: string, bytes: number): void {
    const stream = this.#open.get(streamId);
    if (stream?.credits) stream.handler.onTaken(bytes);
  }

  closed(streamId: string, end: StreamEnd): void {
    const stream = this.#open.get(streamId);
    this.#open.delete(streamId);
    stream?.handler.onClose(end);
  }

  /** The socket has ended, and every stream with it. */
  end(reason: string): void {
    const streams = [...this.#open.values()];
    this.#open.clear();
    for (const { handler } of streams) handler.onClose({ reason, code: undefined });
  }

  #consumed(streamId: string, stream: OpenStream, bytes: number): void {
    stream.unread = Math.max(0, stream.unread - bytes);
    if (!stream.credits) return;
    stream.owed += bytes;
    if (stream.owed < this.#options.streamWindowBytes / CREDITS_PER_WINDOW) return;
    this.#send({ type: "stream_credit", streamId, bytes: stream.owed });
    stream.owed = 0;
  }

  #close(streamId: string, stream: OpenStream, end: StreamEnd): void {
    this.#open.delete(streamId);
    const { reason, code } = end;
    this.#send({ type: "stream_close", streamId, reason, ...(code !== undefined && { code }) });
    stream.handler.onClose(end);
  }
}
