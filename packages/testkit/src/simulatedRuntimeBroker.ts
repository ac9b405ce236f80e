import { randomBytes } from "node:crypto";
import {
  LEGACY_MAX_FRAME_BYTES,
  MAX_FRAME_BYTES,
  SIGNATURE_HEADERS,
  SIGNATURE_MAX_SKEW_SECONDS,
  STREAM_WINDOW_BYTES,
  signatureHeaders,
  verifySignature,
} from "@rootstock/protocol";
import { Probe, systemClock } from "@rootstock/service";
import { type RawData, WebSocket } from "ws";
import {
  type ReceivedRequest,
  SimulatedAgents,
  type SimulatedHandler,
  type SimulatedReply,
} from "./simulatedAgents.ts";

/** What a join gives, as the unmodified command line keeps it. */
export interface SimulatedCredentials {
  readonly brokerId: string;
  /** Standard base64. */
  readonly secretKey: string;
}

/** Registers a runtime broker with a user's token and joins, as `runtime-broker register` does (spec/01 7.1). */
export const joinRuntimeBroker = async (options: {
  readonly hubUrl: string;
  /** A user's bearer token. */
  readonly token: string;
  readonly name: string;
  readonly brokerId?: string;
  readonly autoProvide?: boolean;
}): Promise<SimulatedCredentials> => {
  const post = async (path: string, body: object): Promise<Record<string, string>> => {
    const response = await fetch(`${options.hubUrl}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${options.token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
    return JSON.parse(text);
  };
  const { name, brokerId, autoProvide } = options;
  const registered = await post("/api/v1/brokers", {
    name,
    capabilities: ["sync", "attach"],
    ...(brokerId && { brokerId }),
    ...(autoProvide && { autoProvide }),
  });
  const joined = await post("/api/v1/brokers/join", {
    brokerId: registered.brokerId,
    joinToken: registered.joinToken,
    hostname: name,
    version: "",
    capabilities: ["sync", "attach"],
    profiles: [{ name: "local", type: "podman", available: true }],
  });
  if (!joined.brokerId || !joined.secretKey) throw new Error("join answered without credentials");
  return { brokerId: joined.brokerId, secretKey: joined.secretKey };
};

export interface SimulatedRuntimeBrokerOptions {
  /** The hub's base URL; a function is asked at every dial, like a load balancer in miniature. */
  readonly hubUrl: string | (() => string);
  readonly credentials: SimulatedCredentials;
  /** `rootstock` runs requests at once, reads 1 MiB and says so; the default has the habits of spec/01 section 0. */
  readonly like?: "unmodified" | "rootstock";
  readonly concurrentRequests?: number;
  /** Answers requests; by default `SimulatedAgents`. */
  readonly handle?: SimulatedHandler;
  /** Whether it dials again after losing its session. True unless said otherwise. */
  readonly redials?: boolean;
  /** The first wait after a failed dial in milliseconds, doubling up to 60 s. The original's is 1,000. */
  readonly firstRetryMs?: number;
  /** The keys that tunnelled requests are verified with; after a live reload not always the present one (1.5). */
  readonly verifyingKeys?: readonly string[];
  /** The window of its streams' credits (`rootstock` only); null: it knows none. */
  readonly streamWindowBytes?: number | null;
  /** Whether it sends `connect`. True unless said otherwise. */
  readonly sendsConnect?: boolean;
}

/** One session that was established. */
export interface SimulatedSession {
  readonly sessionId: string;
  readonly hubUrl: string;
  /** The hub's first frame. */
  readonly connected: Readonly<Record<string, unknown>>;
}

/** How a session ended. */
export interface SimulatedClose extends SimulatedSession {
  readonly code: number;
  readonly reason: string;
}

interface Queued {
  readonly kind: "message" | "ping";
  readonly data: Buffer;
}

/**
 * A runtime broker at the level of the protocol, after spec/01: dials, signs, answers what comes through the tunnel and
 * remembers all of it in order of arrival. Its faults are at the test's command.
 */
export class SimulatedRuntimeBroker {
  /** Every request, in order of arrival, refused ones included. */
  readonly received: ReceivedRequest[] = [];
  /** Bodies of `message` calls that reached an agent: a remembered id does not again (`rootstock` only). */
  readonly delivered: { readonly agent: string; readonly body: unknown }[] = [];
  readonly sessions: SimulatedSession[] = [];
  readonly closes: SimulatedClose[] = [];
  /** Statuses of refused dials; 0 where there was no answer. */
  readonly refusedDials: number[] = [];
  readonly agents = new SimulatedAgents();
  /** Each fact as it happens; the lists above keep them. */
  readonly onRequest = new Probe<ReceivedRequest>();
  readonly onSession = new Probe<SimulatedSession>();
  readonly onClose = new Probe<SimulatedClose>();
  readonly onRefusedDial = new Probe<number>();
  /** Frames that are no requests, parsed: `stream_open`, `stream`, ... */
  readonly onFrame = new Probe<Record<string, unknown>>();
  /** Each ping of the hub, when it is answered. */
  readonly onPing = new Probe<void>();
  /** The keys that tunnelled requests are verified with, standard base64. */
  verifyingKeys: readonly string[];

  readonly #options: SimulatedRuntimeBrokerOptions;
  readonly #stop = new AbortController();
  readonly #remembered = new Set<string>();
  #running: Promise<void> | undefined;
  #ws: WebSocket | undefined;
  #session: SimulatedSession | undefined;
  #held: Promise<void> | undefined;
  #release: () => void = () => {};

  constructor(options: SimulatedRuntimeBrokerOptions) {
    this.#options = options;
    this.verifyingKeys = options.verifyingKeys ?? [options.credentials.secretKey];
  }

  /** Begins to dial; resolves with the first session. */
  async connect(): Promise<SimulatedSession> {
    const first = this.onSession.next();
    this.#running ??= this.#dialForEver();
    return first;
  }

  get session(): SimulatedSession | undefined {
    return this.#session;
  }

  /** Answers are worked out and kept back until `releaseAnswers`. */
  holdAnswers(): void {
    if (this.#held) return;
    this.#held = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  releaseAnswers(): void {
    this.#held = undefined;
    this.#release();
  }

  /** Ends the TCP connection without a word. */
  cut(): void {
    this.#ws?.terminate();
  }

  close(code = 1000): void {
    this.#ws?.close(code);
  }

  /** Reads nothing more from the socket, as a machine that hangs. */
  stopReading(): void {
    this.#ws?.pause();
  }

  resumeReading(): void {
    this.#ws?.resume();
  }

  /** Sends a frame, or whatever is no frame. */
  sendRaw(data: string | Buffer): void {
    this.#ws?.send(data);
  }

  sendFrame(frame: object): void {
    this.sendRaw(JSON.stringify(frame));
  }

  /** A signed HTTP call. `extra` headers replace those of the signature. */
  async fetch(
    method: string,
    path: string,
    body?: object,
    extra: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    const [bare = path, query = ""] = path.split("?");
    const bytes = Buffer.from(body === undefined ? "" : JSON.stringify(body));
    return fetch(`${this.#hubUrl()}${path}`, {
      method,
      headers: { "content-type": "application/json", ...this.sign(method, bare, query, bytes), ...extra },
      ...(bytes.byteLength > 0 && { body: bytes }),
    });
  }

  heartbeat(body: object = { status: "online" }): Promise<Response> {
    return this.fetch("POST", `/api/v1/runtime-brokers/${this.#options.credentials.brokerId}/heartbeat`, body);
  }

  /** The headers of a signed request. */
  sign(method: string, path: string, query: string, body: Uint8Array): Record<string, string> {
    return signatureHeaders({
      brokerId: this.#options.credentials.brokerId,
      secret: Buffer.from(this.#options.credentials.secretKey, "base64"),
      method,
      path,
      query,
      body,
      now: systemClock.now(),
      nonce: randomBytes(16),
    });
  }

  /** Closes the session, dials no more, and resolves when nothing runs. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.releaseAnswers();
    this.#ws?.terminate();
    await this.#running;
  }

  #hubUrl(): string {
    return typeof this.#options.hubUrl === "string" ? this.#options.hubUrl : this.#options.hubUrl();
  }

  /** Session loss: at once. A failed dial: 1 s, doubling to 60 s, no jitter, anew after a success (spec/01 3.5). */
  async #dialForEver(): Promise<void> {
    const first = this.#options.firstRetryMs ?? 1_000;
    let wait = first;
    while (!this.#stop.signal.aborted) {
      if (await this.#dial(this.#hubUrl())) wait = first;
      else {
        await systemClock.sleep(wait, this.#stop.signal);
        wait = Math.min(wait * 2, 60_000);
      }
      if (this.#options.redials === false) return;
    }
  }

  /** One session from dial to end. False when it never came to one. */
  #dial(hubUrl: string): Promise<boolean> {
    const path = "/api/v1/runtime-brokers/connect";
    const ws = new WebSocket(`${hubUrl.replace(/^http/, "ws")}${path}`, {
      headers: { "user-agent": "Go-http-client/1.1", ...this.sign("GET", path, "", Buffer.alloc(0)) },
      perMessageDeflate: false,
      autoPong: false,
      maxPayload: this.#isOurs ? MAX_FRAME_BYTES : LEGACY_MAX_FRAME_BYTES,
    });
    this.#ws = ws;
    let session: SimulatedSession | undefined;
    let refused = 0;
    const queue: Queued[] = [];
    let working = false;
    const work = async () => {
      if (working) return;
      working = true;
      for (let next = queue.shift(); next; next = queue.shift()) {
        if (next.kind === "ping") {
          ws.pong(next.data);
          this.onPing.emit();
        } else session = await this.#take(ws, next.data, session, hubUrl);
      }
      working = false;
    };
    const push = (kind: Queued["kind"]) => (data: RawData) => {
      queue.push({ kind, data: bytesOf(data) });
      void work();
    };
    ws.on("message", push("message"));
    ws.on("ping", push("ping"));
    ws.on("open", () => {
      if (this.#options.sendsConnect === false) return;
      ws.send(JSON.stringify(this.#connectFrame()));
    });
    ws.on("unexpected-response", (_, response) => {
      refused = response.statusCode ?? 0;
      ws.terminate();
    });
    ws.on("error", () => {});
    return new Promise((resolve) => {
      ws.on("close", (code, reason) => {
        if (session) this.#ended({ ...session, code, reason: reason.toString() });
        else {
          this.refusedDials.push(refused);
          this.onRefusedDial.emit(refused);
        }
        resolve(session !== undefined);
      });
    });
  }

  get #isOurs(): boolean {
    return this.#options.like === "rootstock";
  }

  #connectFrame(): object {
    return {
      type: "connect",
      brokerId: this.#options.credentials.brokerId,
      version: "0.1.0",
      timestamp: Math.floor(systemClock.now() / 1000),
      ...(this.#isOurs && {
        rootstock: {
          concurrentRequests: this.#options.concurrentRequests ?? 8,
          maxFrameBytes: MAX_FRAME_BYTES,
          remembersMessages: true,
          streamWindowBytes:
            this.#options.streamWindowBytes === undefined ? STREAM_WINDOW_BYTES : this.#options.streamWindowBytes,
        },
      }),
    };
  }

  #ended(close: SimulatedClose): void {
    if (this.#session?.sessionId === close.sessionId) this.#session = undefined;
    this.closes.push(close);
    this.onClose.emit(close);
  }

  /** Takes one frame; while an unmodified one executes a request, the frames after it wait. */
  async #take(
    ws: WebSocket,
    data: Buffer,
    session: SimulatedSession | undefined,
    hubUrl: string,
  ): Promise<SimulatedSession | undefined> {
    const frame: Record<string, unknown> = JSON.parse(data.toString());
    if (!session) {
      if (frame.type !== "connected") {
        ws.close(1002, "expected connected");
        return undefined;
      }
      const established = { sessionId: String(frame.sessionId), hubUrl, connected: frame };
      this.#session = established;
      this.sessions.push(established);
      this.onSession.emit(established);
      return established;
    }
    if (frame.type !== "request") {
      this.onFrame.emit(frame);
      return session;
    }
    const executing = this.#execute(ws, frame, session);
    if (!this.#isOurs) {
      ws.pause();
      await executing;
      ws.resume();
    }
    return session;
  }

  async #execute(ws: WebSocket, frame: Record<string, unknown>, session: SimulatedSession): Promise<void> {
    const request = toRequest(frame, session.sessionId);
    this.received.push(request);
    this.onRequest.emit(request);
    const reply = this.#verifies(request)
      ? await this.#answer(request).catch((err: unknown) => ({
          status: 400,
          body: { error: `request caused panic: ${err}` },
        }))
      : UNSIGNED;
    await this.#held;
    if (ws.readyState !== ws.OPEN) return;
    ws.send(JSON.stringify(toFrame(request.requestId, reply)));
  }

  async #answer(request: ReceivedRequest): Promise<SimulatedReply> {
    if (!request.path.endsWith("/message")) return (this.#options.handle ?? this.agents.handle)(request);
    const id = (request.json as { message_id?: unknown } | undefined)?.message_id;
    if (this.#isOurs && typeof id === "string") {
      if (this.#remembered.has(id)) return { status: 200 };
      this.#remembered.add(id);
    }
    const reply = await (this.#options.handle ?? this.agents.handle)(request);
    if (reply.status < 300) this.delivered.push({ agent: request.path.split("/")[4] ?? "", body: request.json });
    return reply;
  }

  /** Strict: unsigned requests are refused, every configured key is tried, nonces are not remembered (spec/01 2.4). */
  #verifies(request: ReceivedRequest): boolean {
    const header = (name: string) => request.headers[name.toLowerCase()] ?? "";
    const timestamp = header(SIGNATURE_HEADERS.timestamp);
    if (!header(SIGNATURE_HEADERS.brokerId)) return false;
    if (Math.abs(systemClock.now() / 1000 - Number(timestamp)) > SIGNATURE_MAX_SKEW_SECONDS) return false;
    const signed = {
      method: request.method,
      path: decodeURIComponent(request.path),
      query: request.rawQuery,
      timestamp,
      nonce: header(SIGNATURE_HEADERS.nonce),
      body: request.body,
    };
    return this.verifyingKeys.some((key) =>
      verifySignature(Buffer.from(key, "base64"), signed, header(SIGNATURE_HEADERS.signature)),
    );
  }
}

const UNSIGNED: SimulatedReply = {
  status: 401,
  body: { error: { code: "broker_auth_failed", message: "invalid signature" } },
};

const bytesOf = (data: RawData): Buffer =>
  Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);

const toRequest = (frame: Record<string, unknown>, sessionId: string): ReceivedRequest => {
  const [path = "", inPath = ""] = String(frame.path).split("?");
  const rawQuery = typeof frame.query === "string" && frame.query !== "" ? frame.query : inPath;
  const body = Buffer.from(typeof frame.body === "string" ? frame.body : "", "base64");
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(frame.headers ?? {})) headers[name.toLowerCase()] = String(value);
  return {
    requestId: String(frame.requestId),
    method: String(frame.method),
    path,
    rawQuery,
    query: new URLSearchParams(rawQuery),
    headers,
    body,
    json: parsed(body),
    sessionId,
  };
};

const parsed = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
};

/** Headers and body are absent for an empty answer, as the original's are (spec/01 3.3). */
const toFrame = (requestId: string, reply: SimulatedReply): object => {
  if (reply.body === undefined) return { type: "response", requestId, statusCode: reply.status };
  const { body } = reply;
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  return {
    type: "response",
    requestId,
    statusCode: reply.status,
    headers: reply.headers ?? { "Content-Type": "application/json" },
    body: bytes.toString("base64"),
  };
};
