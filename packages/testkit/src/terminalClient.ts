import { Probe } from "@rootstock/service";
import { WebSocket } from "ws";
import { eventually } from "./eventually.ts";
import { TEST_TOKEN } from "./replicas.ts";

export interface AttachOptions {
  readonly token?: string | null;
  /** The query, `cols=100&rows=30` unless said otherwise. */
  readonly query?: string;
  /** Keeps nothing of the output but its length: for floods. */
  readonly discard?: boolean;
}

/** Somebody who attaches to an agent's terminal, with the frames of spec/06 1.7. */
export class TerminalClient {
  /** Each piece of output. */
  readonly onOutput = new Probe<Buffer>();
  readonly errors: Readonly<Record<string, unknown>>[] = [];
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  received = 0;
  readonly #ws: WebSocket;
  readonly #output: Buffer[] = [];

  private constructor(ws: WebSocket, discard: boolean) {
    this.#ws = ws;
    ws.on("message", (data) => {
      const frame = JSON.parse(String(data));
      if (frame.type !== "data") {
        this.errors.push(frame);
        return;
      }
      const bytes = Buffer.from(frame.data, "base64");
      this.received += bytes.byteLength;
      if (!discard) this.#output.push(bytes);
      this.onOutput.emit(bytes);
    });
    ws.on("error", () => {});
    this.closed = new Promise((resolve) => {
      ws.once("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }

  /** Resolves once the upgrade is done. Throws `AttachRefused` with the answer when it is refused. */
  static attach(
    replica: { readonly url: string },
    agentId: string,
    options: AttachOptions = {},
  ): Promise<TerminalClient> {
    const { token = TEST_TOKEN, query = "cols=100&rows=30", discard = false } = options;
    const url = `${replica.url.replace(/^http/, "ws")}/api/v1/agents/${agentId}/pty?${query}`;
    const ws = new WebSocket(url, {
      perMessageDeflate: false,
      headers: { "user-agent": "Go-http-client/1.1", ...(token !== null && { authorization: `Bearer ${token}` }) },
    });
    const client = new TerminalClient(ws, discard);
    return new Promise((resolve, reject) => {
      ws.once("open", () => resolve(client));
      ws.once("unexpected-response", (_, response) => {
        let body = "";
        response.on("data", (piece) => {
          body += piece;
        });
        response.on("end", () => reject(new AttachRefused(response.statusCode ?? 0, body)));
      });
      ws.once("error", reject);
    });
  }

  /** All output so far. */
  output(): Buffer {
    return Buffer.concat(this.#output);
  }

  /** Resolves once the output contains `text`. */
  async shows(text: string): Promise<void> {
    await eventually(() => this.output().includes(text));
  }

  type(data: string | Buffer): void {
    this.sendRaw(JSON.stringify({ type: "data", data: Buffer.from(data).toString("base64") }));
  }

  resize(cols: number, rows: number): void {
    this.sendRaw(JSON.stringify({ type: "resize", cols, rows }));
  }

  sendRaw(data: string | Buffer): void {
    this.#ws.send(data);
  }

  /** Bytes typed that have not left this process: the hub does not read. */
  get unsentBytes(): number {
    return this.#ws.bufferedAmount;
  }

  /** Reads nothing more from the socket. */
  pause(): void {
    this.#ws.pause();
  }

  resume(): void {
    this.#ws.resume();
  }

  close(code = 1000): void {
    this.#ws.close(code);
  }

  /** Ends the TCP connection without a word. */
  cut(): void {
    this.#ws.terminate();
  }
}

/** The hub's answer instead of an upgrade. */
export class AttachRefused extends Error {
  override readonly name = "AttachRefused";
  readonly status: number;
  readonly body: string;

  constructor(status: number, body: string) {
    super(`refused with ${status}: ${body}`);
    this.status = status;
    this.body = body;
  }
}
