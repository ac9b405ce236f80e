import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { StringDecoder } from "node:string_decoder";
import {
  type ConnectFrame,
  connectFrame,
  type FromRuntimeBroker,
  fromRuntimeBroker,
  SIGNATURE_HEADERS,
  signatureHeaders,
  type ToRuntimeBroker,
  verifySignature,
} from "@rootstock/protocol";
import { Probe, systemClock, systemRandom } from "@rootstock/service";
import { noteSecrets, noteSecretsGiven, noteSecretsIn } from "@rootstock/testkit";
import { type WebSocket, WebSocketServer } from "ws";
import { Found } from "./found.ts";

/** A test says what a terminal shows instead before it runs out of time itself. */
const SHOWN_WITHIN_MS = 25_000;

/** An answer of the runtime broker, decoded. */
export class Answer extends Found {
  readonly status: number;
  readonly text: string;
  /** Undefined for an answer that is no JSON. */
  readonly json: unknown;

  constructor(status: number, text: string, json: unknown) {
    super(json);
    this.status = status;
    this.text = text;
    this.json = json;
  }
}

/** What the runtime broker has reported of an agent. */
export class Report extends Found {
  readonly agentId: string;
  readonly token: string;
  readonly body: unknown;

  constructor(agentId: string, token: string, body: unknown) {
    super(body);
    this.agentId = agentId;
    this.token = token;
    this.body = body;
  }
}

export interface RequestOptions {
  readonly query?: string;
  readonly body?: unknown;
  /** Replaces or, with undefined, drops headers. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly now?: number;
  readonly secret?: Buffer;
}

const readBody = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
};

/** A hub for tests: real sockets, real signatures, no database. */
export class FakeHub {
  readonly connected = new Probe<FakeSession>();
  readonly dialled = new Probe<number>();
  readonly heartbeat = new Probe<unknown>();
  readonly reported = new Probe<Report>();
  readonly refreshed = new Probe<string>();
  readonly reports: Report[] = [];
  readonly heartbeats: unknown[] = [];
  readonly joins: unknown[] = [];
  readonly secrets = new Map<string, Buffer>();
  readonly joinTokens = new Map<string, string>();
  /** Answers dials with this status instead of upgrading. */
  refuseDials: number | undefined;
  /** Answers status reports with this status. */
  reportStatus = 200;
  /** What `connected` says of the hub's own frame limit; undefined like the original. */
  maxFrameBytes: number | undefined = 1_048_576;
  /** How much of a stream's output this hub takes before it gives credit; undefined: it knows no credits. */
  streamWindowBytes: number | undefined;
  /** Not sent: the test sends `connected` itself. */
  sayConnected = true;
  refreshedToken = "refreshed-token-5b1e";
  session: FakeSession | undefined;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: 2_097_152 });
  url = "";

  constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on("upgrade", (request, socket, head) => {
      const brokerId = this.#verify(request, Buffer.alloc(0));
      this.dialled.emit(systemClock.elapsed());
      const refusal = this.refuseDials ?? (brokerId ? undefined : 401);
      if (refusal !== undefined || !brokerId) {
        socket.end(`HTTP/1.1 ${refusal} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
        return;
      }
      this.#sockets.handleUpgrade(request, socket, head, (ws) => {
        const session = new FakeSession(ws, brokerId, this.secrets.get(brokerId) ?? Buffer.alloc(0));
        this.session = session;
        if (this.sayConnected) session.sayConnected(this.maxFrameBytes, this.streamWindowBytes);
        this.connected.emit(session);
      });
    });
  }

  async start(port = 0): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** A join token for a new runtime broker. */
  invite(): { brokerId: string; joinToken: string } {
    const brokerId = systemRandom.uuid();
    const joinToken = `scion_join_${systemRandom.bytes(32).toString("base64")}`;
    noteSecrets(joinToken);
    this.joinTokens.set(joinToken, brokerId);
    return { brokerId, joinToken };
  }

  /** Resolves once a report has come (or had come) that `accept` likes. */
  report(accept: (report: Report) => boolean): Promise<Report> {
    const before = this.reports.find(accept);
    return before ? Promise.resolve(before) : this.reported.next(accept);
  }

  #verify(request: IncomingMessage, body: Buffer): string | undefined {
    const header = (name: string) => String(request.headers[name.toLowerCase()] ?? "");
    const brokerId = header(SIGNATURE_HEADERS.brokerId);
    const secret = this.secrets.get(brokerId);
    const url = new URL(request.url ?? "/", "http://hub");
    const signed = {
      method: request.method ?? "",
      path: decodeURIComponent(url.pathname),
      query: url.search.slice(1),
      timestamp: header(SIGNATURE_HEADERS.timestamp),
      nonce: header(SIGNATURE_HEADERS.nonce),
      body,
    };
    return secret && verifySignature(secret, signed, header(SIGNATURE_HEADERS.signature)) ? brokerId : undefined;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    const reply = (status: number, json?: unknown) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(json === undefined ? "" : JSON.stringify(json));
    };
    const path = request.url ?? "";
    const parsed: unknown = body.byteLength > 0 ? JSON.parse(body.toString()) : undefined;
    if (path === "/api/v1/brokers/join") return this.#join(parsed as Record<string, string>, reply);
    const agent = /^\/api\/v1\/agents\/([^/]+)\/(status|token\/refresh)$/.exec(path);
    if (agent) {
      if (agent[2] !== "status") {
        this.refreshed.emit(agent[1] ?? "");
        noteSecrets(this.refreshedToken);
        return reply(200, { token: this.refreshedToken, expires_at: new Date(0).toISOString(), tokens: [] });
      }
      const token = String(request.headers["x-scion-agent-token"]);
      const report = new Report(agent[1] ?? "", token, parsed);
      if (this.reportStatus === 200) this.reports.push(report);
      reply(this.reportStatus);
      return this.reported.emit(report);
    }
    if (path.endsWith("/heartbeat")) {
      if (!this.#verify(request, body)) return reply(401);
      this.heartbeats.push(parsed);
      reply(200);
      return this.heartbeat.emit(parsed);
    }
    return reply(404);
  }

  #join(body: Record<string, string>, reply: (status: number, json?: unknown) => void): void {
    this.joins.push(body);
    const { brokerId = "", joinToken = "" } = body;
    if (this.joinTokens.get(joinToken) !== brokerId) {
      reply(401, { error: { code: "invalid_join_token", message: "no such token" } });
      return;
    }
    this.joinTokens.delete(joinToken);
    const secret = systemRandom.bytes(32);
    this.secrets.set(brokerId, secret);
    noteSecretsIn({ secretKey: secret.toString("base64") });
    reply(200, { secretKey: secret.toString("base64"), hubEndpoint: "http://inside.example", brokerId });
  }
}

/** The hub's end of one control channel. */
export class FakeSession {
  readonly frames: FromRuntimeBroker[] = [];
  readonly frame = new Probe<FromRuntimeBroker>();
  readonly closed: Promise<{ code: number }>;
  readonly socket: WebSocket;
  readonly #brokerId: string;
  readonly #secret: Buffer;

  constructor(socket: WebSocket, brokerId: string, secret: Buffer) {
    this.socket = socket;
    this.#brokerId = brokerId;
    this.#secret = secret;
    socket.on("message", (data) => {
      const frame = fromRuntimeBroker.parse(JSON.parse(String(data)));
      this.frames.push(frame);
      this.frame.emit(frame);
    });
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => socket.once("close", (code) => resolve({ code })));
  }

  sayConnected(maxFrameBytes: number | undefined, streamWindowBytes?: number): void {
    this.send({
      type: "connected",
      brokerId: this.#brokerId,
      sessionId: systemRandom.uuid(),
      pingIntervalMs: 30_000,
      ...(maxFrameBytes !== undefined && { rootstock: { maxFrameBytes, streamWindowBytes } }),
    });
  }

  send(frame: ToRuntimeBroker): void {
    this.socket.send(JSON.stringify(frame));
  }

  /** The frame that `accept` likes, past or future. */
  async until<T extends FromRuntimeBroker>(accept: (frame: FromRuntimeBroker) => frame is T): Promise<T> {
    const before = this.frames.find(accept);
    if (before) return before;
    const found = await Promise.race([this.frame.next(accept), this.closed]);
    if ("type" in found && accept(found)) return found;
    throw new Error("the channel closed first");
  }

  connect(): Promise<ConnectFrame> {
    return this.until((frame): frame is ConnectFrame => connectFrame.safeParse(frame).success);
  }

  /** Sends a signed request, unless told otherwise, and resolves with its answer. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const { requestId } = this.sendRequest(method, path, options);
    return this.answer(requestId);
  }

  /** Sends a request and does not wait. */
  sendRequest(
    method: string,
    path: string,
    options: RequestOptions = {},
  ): { requestId: string; frame: ToRuntimeBroker } {
    const body = options.body === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(options.body));
    const query = options.query ?? "";
    const own = signatureHeaders({
      brokerId: this.#brokerId,
      secret: options.secret ?? this.#secret,
      method,
      path,
      query,
      body,
      now: options.now ?? systemClock.now(),
      nonce: systemRandom.bytes(16),
    });
    noteSecrets(own[SIGNATURE_HEADERS.signature]);
    noteSecretsIn(options.body);
    noteSecretsGiven(options.body);
    const signed: Record<string, string | undefined> = {
      ...own,
      "Content-Type": "application/json",
      ...options.headers,
    };
    const headers = Object.fromEntries(Object.entries(signed).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])));
    const requestId = systemRandom.uuid();
    const frame: ToRuntimeBroker = {
      type: "request",
      requestId,
      method,
      path,
      ...(query && { query }),
      headers,
      ...(body.byteLength > 0 && { body: body.toString("base64") }),
    };
    this.send(frame);
    return { requestId, frame };
  }

  async answer(requestId: string): Promise<Answer> {
    const frame = await this.until(
      (f): f is Extract<FromRuntimeBroker, { type: "response" }> => f.type === "response" && f.requestId === requestId,
    );
    const text = Buffer.from(frame.body ?? "", "base64").toString("utf8");
    const isJson = frame.headers?.["Content-Type"] === "application/json";
    return new Answer(frame.statusCode, text, isJson ? JSON.parse(text) : undefined);
  }

  /** Opens a terminal on an agent. */
  terminal(slug: string, projectId: string, options: LookOptions = {}): FakeTerminal {
    return new FakeTerminal(this, slug, projectId, options);
  }
}

interface LookOptions {
  readonly readonly?: boolean;
  /** 100 unless said otherwise. */
  readonly cols?: number;
}

/** Somebody who looks at an agent's terminal through the hub. */
export class FakeTerminal {
  readonly streamId = systemRandom.uuid();
  output = "";
  /** Bytes of input that the runtime broker has said its program took. */
  credited = 0;
  readonly closed: Promise<{ code?: number | null | undefined; reason?: string | null | undefined }>;
  readonly #session: FakeSession;
  readonly #grown = new Probe<string>();
  /** A frame may end in the middle of a character. */
  readonly #decoder = new StringDecoder("utf8");

  constructor(session: FakeSession, slug: string, projectId: string, options: LookOptions) {
    this.#session = session;
    session.frame.on((frame) => {
      if (frame.type === "stream_credit" && frame.streamId === this.streamId) this.credited += frame.bytes;
      if (frame.type !== "stream" || frame.streamId !== this.streamId) return;
      this.output += this.#decoder.write(Buffer.from(frame.data ?? "", "base64"));
      this.#grown.emit(this.output);
    });
    this.closed = session.until(
      (f): f is Extract<FromRuntimeBroker, { type: "stream_close" }> =>
        f.type === "stream_close" && f.streamId === this.streamId,
    );
    // A test that ends without looking at it must not fail for that.
    this.closed.catch(() => {});
    session.send({
      type: "stream_open",
      streamId: this.streamId,
      streamType: "pty",
      slug,
      projectId,
      groveId: projectId,
      cols: 100,
      rows: 30,
      ...options,
    });
  }

  /** Resolves once the output so far contains `text`, so many times. */
  async shows(text: string, times = 1): Promise<void> {
    const isThere = (output: string) => output.split(text).length > times;
    if (isThere(this.output)) return;
    const waited = new AbortController();
    const late = systemClock.sleep(SHOWN_WITHIN_MS, waited.signal).then(() => {
      if (!waited.signal.aborted) throw new Error(`the terminal shows ${JSON.stringify(this.output)}, not "${text}"`);
    });
    await Promise.race([this.#grown.next(isThere), late]).finally(() => waited.abort());
  }

  type(text: string): void {
    this.#session.send({ type: "stream", streamId: this.streamId, data: Buffer.from(text).toString("base64") });
  }

  close(): void {
    this.#session.send({ type: "stream_close", streamId: this.streamId, reason: "session closed", code: 0 });
  }
}
