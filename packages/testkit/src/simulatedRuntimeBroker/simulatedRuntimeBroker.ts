import { LEGACY_MAX_FRAME_BYTES, MAX_FRAME_BYTES } from "@rootstock/protocol";
import { Probe, systemClock } from "@rootstock/service";
import { type ReceivedRequest, SimulatedAgents } from "../simulatedAgents.ts";
import { connectFrameOf } from "./connectFrame.ts";
import { Executor } from "./executor.ts";
import type { SimulatedClose, SimulatedRuntimeBrokerOptions, SimulatedSession } from "./options.ts";
import { signedHeaders } from "./signing.ts";
import { CONNECT_PATH, SimulatedSocket, type SocketEnd } from "./socket.ts";
import { toRequest, toResponseFrame } from "./tunnelFrames.ts";

/**
 * A runtime broker at the level of the protocol, after spec/01: dials, signs, answers what comes through the tunnel and
 * remembers all of it in order of arrival. Its faults are at the test's command.
 */
export class SimulatedRuntimeBroker {
  readonly sessions: SimulatedSession[] = [];
  readonly closes: SimulatedClose[] = [];
  /** Statuses of refused dials; 0 where there was no answer. */
  readonly refusedDials: number[] = [];
  readonly agents = new SimulatedAgents();
  /** Each fact as it happens; the lists keep them. */
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
  readonly #executor: Executor;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #socket: SimulatedSocket | undefined;
  readonly #abandoned = new Set<SimulatedSocket>();
  #session: SimulatedSession | undefined;

  constructor(options: SimulatedRuntimeBrokerOptions) {
    this.#options = options;
    this.verifyingKeys = options.verifyingKeys ?? [options.credentials.secretKey];
    this.#executor = new Executor({
      handle: options.handle ?? this.agents.handle,
      remembersMessages: this.#isOurs,
      keys: () => this.verifyingKeys,
    });
  }

  /** Every request, in order of arrival, refused ones included. */
  get received(): ReceivedRequest[] {
    return this.#executor.received;
  }

  /** Bodies of `message` calls that reached an agent: a remembered id does not again (`rootstock` only). */
  get delivered(): { readonly agent: string; readonly body: unknown }[] {
    return this.#executor.delivered;
  }

  get onRequest(): Probe<ReceivedRequest> {
    return this.#executor.onRequest;
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
    this.#executor.hold();
  }

  releaseAnswers(): void {
    this.#executor.release();
  }

  /** Ends the TCP connection without a word. */
  cut(): void {
    this.#socket?.ws.terminate();
  }

  close(code = 1000): void {
    this.#socket?.ws.close(code);
  }

  /** From now on no frame of this session gets through, in either direction, and neither end is told. */
  loseFrames(): void {
    this.#socket?.loseFrames();
  }

  /**
   * Takes this session for dead and dials anew. Its connection stays open, and the hub's end believes in it. Answers that
   * are still being worked out arrive over it, unless frames were lost before.
   */
  abandon(): void {
    if (!this.#socket || !this.#session) return;
    this.#abandoned.add(this.#socket);
    this.#socket.abandon();
  }

  /** Reads nothing more from the socket, as a machine that hangs. */
  stopReading(): void {
    this.#socket?.ws.pause();
  }

  resumeReading(): void {
    this.#socket?.ws.resume();
  }

  /** Sends a frame, or whatever is no frame. */
  sendRaw(data: string | Buffer): void {
    this.#socket?.ws.send(data);
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
    return signedHeaders(this.#options.credentials, { method, path, query, body });
  }

  /** Closes the session, dials no more, and resolves when nothing runs. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.releaseAnswers();
    for (const socket of this.#abandoned) socket.ws.terminate();
    this.#socket?.ws.terminate();
    await this.#running;
  }

  #hubUrl(): string {
    return typeof this.#options.hubUrl === "string" ? this.#options.hubUrl : this.#options.hubUrl();
  }

  get #isOurs(): boolean {
    return this.#options.like === "rootstock";
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
  async #dial(hubUrl: string): Promise<boolean> {
    let session: SimulatedSession | undefined;
    const socket: SimulatedSocket = new SimulatedSocket({
      hubUrl,
      headers: this.sign("GET", CONNECT_PATH, "", Buffer.alloc(0)),
      maxFrameBytes: this.#isOurs ? MAX_FRAME_BYTES : LEGACY_MAX_FRAME_BYTES,
      connectFrame: this.#options.sendsConnect === false ? undefined : connectFrameOf(this.#options),
      onFrame: async (frame) => {
        if (session) await this.#take(socket, frame, session);
        else session = this.#begin(socket, frame, hubUrl);
      },
      onPing: () => this.onPing.emit(),
    });
    this.#socket = socket;
    const end = await socket.ended;
    this.#ended(session, end);
    return session !== undefined;
  }

  #begin(socket: SimulatedSocket, frame: Record<string, unknown>, hubUrl: string): SimulatedSession | undefined {
    if (frame.type !== "connected") {
      socket.ws.close(1002, "expected connected");
      return undefined;
    }
    const session = { sessionId: String(frame.sessionId), hubUrl, connected: frame };
    this.#session = session;
    this.sessions.push(session);
    this.onSession.emit(session);
    return session;
  }

  #ended(session: SimulatedSession | undefined, { code, reason, refused }: SocketEnd): void {
    if (!session) {
      this.refusedDials.push(refused);
      this.onRefusedDial.emit(refused);
      return;
    }
    if (this.#session?.sessionId === session.sessionId) this.#session = undefined;
    const close = { ...session, code, reason };
    this.closes.push(close);
    this.onClose.emit(close);
  }

  /** Takes one frame; while an unmodified one executes a request, the frames after it wait. */
  async #take(socket: SimulatedSocket, frame: Record<string, unknown>, session: SimulatedSession): Promise<void> {
    if (frame.type !== "request") {
      this.onFrame.emit(frame);
      return;
    }
    const request = toRequest(frame, session.sessionId);
    const began = systemClock.elapsed();
    const executing = this.#executor
      .execute(request)
      .then((reply) => socket.send(toResponseFrame(request.requestId, reply)));
    if (this.#isOurs) return;
    socket.ws.pause();
    await executing;
    socket.ws.resume();
    const { dropsAfterMs } = this.#options;
    if (dropsAfterMs !== undefined && systemClock.elapsed() - began > dropsAfterMs) socket.ws.close(1000);
  }
}
