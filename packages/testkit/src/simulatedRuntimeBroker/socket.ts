import { type RawData, WebSocket } from "ws";

export interface SocketOptions {
  readonly hubUrl: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The largest frame that is read, in bytes. */
  readonly maxFrameBytes: number;
  /** Sent at once; undefined: nothing is. */
  readonly connectFrame: object | undefined;
  /** Takes one frame; while a promise is pending, the frames and pings after it wait. */
  readonly onFrame: (frame: Record<string, unknown>) => Promise<void>;
  /** A ping of the hub was answered. */
  readonly onPing: () => void;
}

/** How a socket ended: `refused` is the status of a dial that was refused, 0 where there was no answer. */
export interface SocketEnd {
  readonly code: number;
  readonly reason: string;
  readonly refused: number;
}

interface Queued {
  readonly kind: "message" | "ping";
  readonly data: Buffer;
}

/** Where runtime brokers dial. */
export const CONNECT_PATH = "/api/v1/runtime-brokers/connect";

/** One socket to the hub, from dial to end. Frames and pings are worked off one after another, as in a read loop. */
export class SimulatedSocket {
  readonly ws: WebSocket;
  readonly ended: Promise<SocketEnd>;
  readonly #options: SocketOptions;
  readonly #queue: Queued[] = [];
  #working = false;
  #hears = true;
  #speaks = true;
  #leave: (end: SocketEnd) => void = () => {};

  constructor(options: SocketOptions) {
    this.#options = options;
    const ws = new WebSocket(`${options.hubUrl.replace(/^http/, "ws")}${CONNECT_PATH}`, {
      headers: { "user-agent": "Go-http-client/1.1", ...options.headers },
      perMessageDeflate: false,
      autoPong: false,
      maxPayload: options.maxFrameBytes,
    });
    this.ws = ws;
    let refused = 0;
    ws.on("message", (data) => this.#push("message", data));
    ws.on("ping", (data) => this.#push("ping", data));
    ws.on("open", () => {
      if (options.connectFrame) ws.send(JSON.stringify(options.connectFrame));
    });
    ws.on("unexpected-response", (_, response) => {
      refused = response.statusCode ?? 0;
      ws.terminate();
    });
    ws.on("error", () => {});
    this.ended = new Promise((resolve) => {
      this.#leave = resolve;
      ws.on("close", (code, reason) => resolve({ code, reason: reason.toString(), refused }));
    });
  }

  /** Sends a frame; one for a socket that has closed is dropped. */
  send(frame: object): void {
    if (this.#speaks && this.ws.readyState === this.ws.OPEN) this.ws.send(JSON.stringify(frame));
  }

  /** From now on nothing gets through in either direction, and neither end is told. */
  loseFrames(): void {
    this.#hears = false;
    this.#speaks = false;
  }

  /** Ends here and now, while the connection and the hub's end of it live on. What is still sent arrives. */
  abandon(): void {
    this.#hears = false;
    this.#leave({ code: 1006, reason: "abandoned", refused: 0 });
  }

  #push(kind: Queued["kind"], data: RawData): void {
    if (!this.#hears) return;
    this.#queue.push({ kind, data: bytesOf(data) });
    void this.#work();
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      if (next.kind === "ping") {
        if (this.#speaks) this.ws.pong(next.data);
        this.#options.onPing();
      } else await this.#options.onFrame(JSON.parse(next.data.toString()));
    }
    this.#working = false;
  }
}

const bytesOf = (data: RawData): Buffer =>
  Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
