import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface LaneReply {
  readonly status: number;
  readonly body: string;
}

interface Waiting {
  readonly resolve: (reply: LaneReply) => void;
  readonly reject: (err: Error) => void;
}

/**
 * One kept-alive HTTP connection with one request at a time. Node's own clients cost several times what this does, and
 * the load generator shares the machine with what it measures. Understands what our servers answer, and nothing else.
 */
export class HttpLane {
  readonly #socket: Socket;
  readonly #host: string;
  readonly #headers: string;
  readonly #token: string;
  #received: Buffer = Buffer.alloc(0);
  #waiting: Waiting | undefined;

  private constructor(socket: Socket, host: string, token: string) {
    this.#socket = socket;
    this.#host = host;
    this.#headers = `host: ${host}\r\ncontent-type: application/json\r\n`;
    this.#token = `authorization: Bearer ${token}\r\n`;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("error", (err) => this.#fail(err));
    socket.on("close", () => this.#fail(new Error(`${this.#host} closed the connection`)));
  }

  static async open(url: string, token: string): Promise<HttpLane> {
    const { hostname, port, host } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    return new HttpLane(socket, host, token);
  }

  /**
   * Sends a request and waits for its answer. Rejects when the connection ends first. `credentials`: header lines, with
   * their ends, that go in the place of the token.
   */
  request(method: string, path: string, body = "", credentials?: string): Promise<LaneReply> {
    if (this.#waiting) throw new Error("a lane takes one request at a time");
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new Error(`${this.#host} closed the connection`));
        return;
      }
      this.#waiting = { resolve, reject };
      this.#socket.write(
        `${method} ${path} HTTP/1.1\r\n${this.#headers}${credentials ?? this.#token}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #fail(err: Error): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(err);
  }

  #receive(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const headEnd = this.#received.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const head = this.#received.toString("latin1", 0, headEnd);
    const status = Number(head.slice(9, 12));
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
    const from = headEnd + 4;
    if (length !== undefined) this.#take(status, from, from + Number(length));
    else {
      // Chunked, in one chunk: our servers write a small answer whole.
      const sizeEnd = this.#received.indexOf("\r\n", from);
      if (sizeEnd < 0) return;
      const size = Number.parseInt(this.#received.toString("latin1", from, sizeEnd), 16);
      const bodyFrom = sizeEnd + 2;
      this.#take(status, bodyFrom, bodyFrom + size, size === 0 ? 2 : 2 + 5);
    }
  }

  /** `trailing` bytes follow the body and belong to it. */
  #take(status: number, from: number, to: number, trailing = 0): void {
    if (this.#received.length < to + trailing) return;
    const body = this.#received.toString("utf8", from, to);
    this.#received = this.#received.subarray(to + trailing);
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve({ status, body });
  }
}
