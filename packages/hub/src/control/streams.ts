import type { PeerLimits } from "./options.ts";

/** What arrives on a stream. */
export interface StreamHandler {
  onData(data: Buffer): void;
  /** The stream has ended, on the other side or with the socket. Called once; nothing follows. */
  onClose(end: StreamEnd): void;
}

export interface StreamEnd {
  readonly reason: string;
  /** As the runtime broker said, else undefined. */
  readonly code: number | undefined;
}

/** What is opened at the runtime broker (spec/01 3.7). */
export interface StreamRequest {
  readonly streamType: "pty";
  readonly slug: string;
  readonly projectId: string;
  readonly cols: number;
  readonly rows: number;
}

/** This end of one stream. After its end every call is a no-op. */
export interface StreamHandle {
  readonly streamId: string;
  /** Sends bytes, in as many frames as the runtime broker's limit asks for. False when the stream has ended. */
  write(data: Uint8Array): boolean;
  resize(cols: number, rows: number): void;
  close(reason: string, code?: number): void;
}

/** Room in a frame for everything but the data. */
const FRAME_OVERHEAD_BYTES = 256;

/** The streams of one socket. */
export class Streams {
  readonly #send: (frame: object) => boolean;
  readonly #handlers = new Map<string, StreamHandler>();

  constructor(send: (frame: object) => boolean) {
    this.#send = send;
  }

  open(streamId: string, request: StreamRequest, limits: PeerLimits, handler: StreamHandler): StreamHandle {
    this.#handlers.set(streamId, handler);
    // Old runtime brokers read one name of the project, new ones the other.
    this.#send({ type: "stream_open", streamId, ...request, groveId: request.projectId });
    const chunkBytes = Math.floor((limits.maxFrameBytes - FRAME_OVERHEAD_BYTES) / 4) * 3;
    const isOpen = () => this.#handlers.get(streamId) === handler;
    return {
      streamId,
      write: (data) => {
        for (let at = 0; at < data.byteLength; at += chunkBytes) {
          if (!isOpen()) return false;
          const chunk = Buffer.from(data.subarray(at, at + chunkBytes)).toString("base64");
          if (!this.#send({ type: "stream", streamId, data: chunk })) return false;
        }
        return isOpen();
      },
      resize: (cols, rows) => {
        if (isOpen()) this.#send({ type: "stream_resize", streamId, cols, rows });
      },
      close: (reason, code) => {
        if (!isOpen()) return;
        this.#handlers.delete(streamId);
        this.#send({ type: "stream_close", streamId, reason, ...(code !== undefined && { code }) });
        handler.onClose({ reason, code });
      },
    };
  }

  /** Bytes for a stream. One that is not open here is nobody's: it was closed while they were under way. */
  data(streamId: string, base64: string): void {
    this.#handlers.get(streamId)?.onData(Buffer.from(base64, "base64"));
  }

  closed(streamId: string, end: StreamEnd): void {
    const handler = this.#handlers.get(streamId);
    this.#handlers.delete(streamId);
    handler?.onClose(end);
  }

  /** The socket has ended, and every stream with it. */
  end(reason: string): void {
    const handlers = [...this.#handlers.values()];
    this.#handlers.clear();
    for (const handler of handlers) handler.onClose({ reason, code: undefined });
  }
}
