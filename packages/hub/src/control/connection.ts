import type { KeyObject } from "node:crypto";
import { connectFrame, streamCloseFrame, streamCreditFrame, streamFrame, type Uuid } from "@rootstock/protocol";
import type { RawData, WebSocket } from "ws";
import { limitsOf, type PeerLimits, UNMODIFIED_LIMITS } from "./options.ts";
import { type StreamHandle, type StreamHandler, type StreamRequest, Streams } from "./streams.ts";
import { type FrameSink, Tunnel, type TunnelRequest, type TunnelResponse, type TunnelShared } from "./tunnel.ts";
import { TunnelError } from "./tunnelError.ts";

/** Who is told of what happens to a connection. */
export interface ConnectionOwner {
  /** The limits are known; requests may be sent. Once. */
  ready(connection: Connection): void;
  /** A request has left the wire: there is room for another. */
  freed(connection: Connection): void;
  /** The connection is no longer used, whatever the socket still does. Once. */
  ended(connection: Connection, reason: string): void;
}

export interface ConnectionIdentity {
  readonly runtimeBrokerId: Uuid;
  /** New for every socket. */
  readonly sessionId: Uuid;
  /** The key that the socket was opened with: most probably the one that the runtime broker verifies with. */
  readonly key: KeyObject;
  /** What the database makes of the session's id, to compare what it names with what is held. */
  readonly mark: bigint;
}

/** How long the other end has to answer a close. One that executes a request cannot, and is not waited for. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Of why a stream ended: viewers are told far less, and other replicas would have to pass on all of it. */
const MAX_REASON_CHARACTERS = 1_024;

/** One runtime broker's socket on this replica. Owns no timer: `tick` is called for all of them by one. */
export class Connection implements FrameSink {
  readonly runtimeBrokerId: Uuid;
  readonly sessionId: Uuid;
  readonly mark: bigint;
  /** The key that the socket was opened with. */
  readonly key: KeyObject;
  readonly #ws: WebSocket;
  readonly #owner: ConnectionOwner;
  readonly #shared: TunnelShared;
  readonly #tunnel: Tunnel;
  #streams: Streams | undefined;
  #limits: PeerLimits = UNMODIFIED_LIMITS;
  #state: "new" | "ready" | "retiring" | "ended" = "new";
  #openedAt: number;
  #heardAt: number;
  #pingedAt: number;
  #unsent = 0;
  #unsentSince = 0;
  #garbageSeen = false;
  #wasReady = false;

  constructor(ws: WebSocket, identity: ConnectionIdentity, owner: ConnectionOwner, shared: TunnelShared) {
    this.runtimeBrokerId = identity.runtimeBrokerId;
    this.sessionId = identity.sessionId;
    this.mark = identity.mark;
    this.key = identity.key;
    this.#ws = ws;
    this.#owner = owner;
    this.#shared = shared;
    this.#tunnel = new Tunnel(this, identity.key, shared);
    const now = shared.base.clock.elapsed();
    this.#openedAt = now;
    this.#heardAt = now;
    this.#pingedAt = now;
    ws.on("message", (data) => this.#receive(data));
    ws.on("ping", () => this.#heard());
    ws.on("pong", () => this.#heard());
    ws.on("close", (code) => this.#end(`closed with ${code}`));
    ws.on("error", (err) => this.#failed(err));
    // The first frame of all: the runtime broker takes any other for a refusal (spec/01 3.2).
    this.send(
      JSON.stringify({
        type: "connected",
        brokerId: this.runtimeBrokerId,
        sessionId: this.sessionId,
        pingIntervalMs: shared.options.pingIntervalMs,
        rootstock: {
          maxFrameBytes: shared.options.maxFrameBytes,
          streamWindowBytes: shared.options.streamWindowBytes,
        },
      }),
    );
  }

  /** What the runtime broker can take. Final once the connection is ready. */
  get limits(): PeerLimits {
    return this.#limits;
  }

  /** Whether requests are taken. */
  get isOpen(): boolean {
    return this.#state === "ready";
  }

  /** Whether requests were ever taken. */
  get wasReady(): boolean {
    return this.#wasReady;
  }

  /** Whether it is the registry's business: not ended. */
  get isHeld(): boolean {
    return this.#state !== "ended";
  }

  /** Sends a request when its turn comes. Throws `TunnelError`. */
  call(request: TunnelRequest): Promise<TunnelResponse> {
    if (!this.isOpen) return Promise.reject(new TunnelError("not_sent", "the runtime broker is not connected here"));
    return this.#tunnel.call(request);
  }

  /** Requests on the wire. */
  inFlight(): number {
    return this.#tunnel.inFlight();
  }

  /** Requests that wait for their turn. */
  queued(): number {
    return this.#tunnel.queued();
  }

  /** Open streams. */
  get streams(): number {
    return this.#streams?.size ?? 0;
  }

  /** Opens a stream at the runtime broker. Throws `TunnelError` when the socket does not take it. */
  openStream(request: StreamRequest, handler: StreamHandler): StreamHandle {
    if (!this.isOpen) throw new TunnelError("not_sent", "the runtime broker is not connected here");
    this.#streams ??= new Streams((frame, sent) => this.send(JSON.stringify(frame), sent), this.#shared.options);
    return this.#streams.open(this.#shared.base.random.uuid(), request, this.#limits, handler);
  }

  /** Takes no more requests, and resolves when those on the wire have ended. */
  retire(reason: string): Promise<void> {
    if (this.#state === "new" || this.#state === "ready") this.#state = "retiring";
    this.#tunnel.retire(reason);
    return this.#tunnel.idle();
  }

  /** Ends the connection now: what is on the wire counts as lost, whenever the other end notices. */
  close(code: number, reason: string): void {
    if (this.#state === "ended") return;
    this.#ws.close(code, reason);
    const timer = this.#shared.base.clock.after(CLOSE_TIMEOUT_MS, () => this.#ws.terminate());
    this.#ws.once("close", () => timer.cancel());
    this.#end(reason);
  }

  /** False when the socket takes nothing any more; `sent` is called once the text has left this process. */
  send(text: string, sent?: () => void): boolean {
    if (this.#state === "ended" || this.#ws.readyState !== this.#ws.OPEN) return false;
    if (sent) this.#ws.send(text, (err) => err ?? sent());
    else this.#ws.send(text);
    return true;
  }

  freed(): void {
    this.#owner.freed(this);
  }

  /** Pings, deadlines. `now` is the clock's `elapsed`. */
  tick(now: number): void {
    if (this.#state === "ended") return;
    const { options } = this.#shared;
    if (this.#state === "new" && now - this.#openedAt >= options.connectWaitMs) this.#becomeReady(UNMODIFIED_LIMITS);
    this.#tunnel.expire(now);
    if (now > this.#silenceDeadline()) this.#terminate("silent for too long");
    else if (this.#writeStalled(now)) this.#terminate("not reading");
    // One that is heard of is not asked whether it lives: runtime brokers ping by themselves.
    else if (
      now - Math.max(this.#pingedAt, this.#heardAt) >= options.pingIntervalMs &&
      this.#ws.readyState === this.#ws.OPEN
    ) {
      this.#pingedAt = now;
      this.#ws.ping();
    }
  }

  /**
   * When silence means that the other end is gone. An unmodified runtime broker answers nothing while it executes a
   * request, so that time does not count, up to the longest that a request may take.
   */
  #silenceDeadline(): number {
    const { options } = this.#shared;
    const busySince = this.#limits.serial ? this.#tunnel.oldestSentAt() : undefined;
    const quietSince =
      busySince === undefined ? this.#heardAt : Math.max(this.#heardAt, busySince + options.requestLimitMs);
    return quietSince + options.silenceLimitMs;
  }

  #writeStalled(now: number): boolean {
    const amount = this.#ws.bufferedAmount;
    const busy = this.#limits.serial && this.#tunnel.inFlight() > 0;
    if (amount === 0 || amount < this.#unsent || this.#unsent === 0 || busy) this.#unsentSince = now;
    this.#unsent = amount;
    return amount > 0 && now - this.#unsentSince > this.#shared.options.writeLimitMs;
  }

  #heard(): void {
    this.#heardAt = this.#shared.base.clock.elapsed();
  }

  #receive(data: RawData): void {
    if (this.#state === "ended") return;
    this.#heard();
    const bytes = Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
    if (!this.#limits.serial && bytes.byteLength > this.#shared.options.maxFrameBytes) {
      this.close(1009, "frame too large");
      return;
    }
    let frame: unknown;
    try {
      frame = JSON.parse(bytes.toString("utf8"));
    } catch {
      this.#garbage("not JSON");
      return;
    }
    try {
      this.#dispatch(frame);
    } catch (err) {
      // Thrown by whoever reads a stream: nobody else is there to hear it, and the process would end.
      this.#shared.base.log.error({ err, ...this.#names() }, "taking a frame of a runtime broker failed");
    }
  }

  #dispatch(frame: unknown): void {
    const type = typeof frame === "object" && frame !== null && "type" in frame ? frame.type : undefined;
    switch (type) {
      case "response":
        this.#tunnel.answer(frame);
        break;
      case "stream":
      case "stream_close":
      case "stream_credit":
        this.#streamed(frame);
        break;
      case "connect": {
        const parsed = connectFrame.safeParse(frame);
        if (!parsed.success) this.#garbage("connect");
        this.#becomeReady(limitsOf(parsed.data?.rootstock));
        break;
      }
      case "ping":
        this.send(JSON.stringify({ type: "pong", timestamp: this.#shared.base.clock.now() }));
        break;
      default:
        // Unknown types are for a later version, or for nobody.
        break;
    }
  }

  #streamed(frame: unknown): void {
    const data = streamFrame.safeParse(frame);
    if (data.success) {
      this.#streams?.data(data.data.streamId, data.data.data ?? "");
      return;
    }
    const credit = streamCreditFrame.safeParse(frame);
    if (credit.success) {
      this.#streams?.credit(credit.data.streamId, credit.data.bytes);
      return;
    }
    const end = streamCloseFrame.safeParse(frame);
    if (!end.success) {
      this.#garbage("stream");
      return;
    }
    const { streamId, reason, code } = end.data;
    // The original leaves a code of 0 out.
    this.#streams?.closed(streamId, { reason: (reason ?? "").slice(0, MAX_REASON_CHARACTERS), code: code ?? 0 });
  }

  #becomeReady(limits: PeerLimits): void {
    if (this.#state !== "new") return;
    this.#limits = limits;
    this.#state = "ready";
    this.#wasReady = true;
    this.#owner.ready(this);
  }

  #garbage(what: string): void {
    if (this.#garbageSeen) return;
    this.#garbageSeen = true;
    this.#shared.base.log.warn({ ...this.#names(), frame: what }, "runtime broker sent a frame that cannot be read");
  }

  #failed(err: Error): void {
    this.#shared.base.log.debug({ err, ...this.#names() }, "socket of a runtime broker failed");
    this.#end(err.message);
  }

  #terminate(reason: string): void {
    this.#shared.base.log.info({ ...this.#names(), reason }, "socket of a runtime broker ended");
    this.#end(reason);
    this.#ws.terminate();
  }

  #end(reason: string): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#tunnel.end(reason);
    this.#streams?.end(reason);
    this.#owner.ended(this, reason);
  }

  #names(): { readonly runtimeBrokerId: Uuid; readonly sessionId: Uuid } {
    return { runtimeBrokerId: this.runtimeBrokerId, sessionId: this.sessionId };
  }
}
