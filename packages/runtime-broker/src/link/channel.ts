import {
  type ConnectedFrame,
  type ConnectFrame,
  type FromRuntimeBroker,
  LEGACY_MAX_FRAME_BYTES,
  MAX_FRAME_BYTES,
  type RuntimeBrokerExtension,
  type ToRuntimeBroker,
  toRuntimeBroker,
} from "@rootstock/protocol";
import type { Base, Timer } from "@rootstock/service";
import { WebSocket } from "ws";
import { VERSION } from "../version.ts";

/** How long the hub may take to say `connected` (spec/01 3.2). */
const HANDSHAKE_MS = 30_000;
/** A socket on which nothing arrived for so long is given up (spec/01 3.4). */
const READ_DEADLINE_MS = 60_000;
const DEFAULT_PING_MS = 30_000;
/** How long a close may wait for the other side's answer before the socket is destroyed. */
const CLOSE_PATIENCE_MS = 2_000;

/** What the rest of the program sees of the control channel's socket. */
export interface Channel {
  /** The largest frame that the hub reads, in bytes of JSON text. */
  readonly maxFrameBytes: number;
  /** How much of a stream's output the hub takes before it gives credit; undefined for a hub without credits. */
  readonly streamWindowBytes: number | undefined;
  /** Bytes handed to the socket and not yet written. */
  readonly pendingBytes: number;
  /** Sends a frame; one for a socket that has closed is dropped. `sent` is called once it has left this process. */
  send(frame: FromRuntimeBroker, sent?: () => void): void;
}

export interface ChannelListener {
  onFrame(channel: Channel, frame: ToRuntimeBroker): void;
  /** Called once, after which the channel carries nothing any more. */
  onClosed(channel: Channel): void;
}

export interface ChannelEnd {
  /** Whether the hub had said `connected`. */
  readonly connected: boolean;
  readonly code: number;
  readonly reason: string;
}

export interface ChannelOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly brokerId: string;
  readonly extension: RuntimeBrokerExtension;
  readonly listener: ChannelListener;
  readonly onConnected: (frame: ConnectedFrame) => void;
}

/**
 * One socket to the hub, from dial to close: handshake, keep-alive, frames in and out (spec/01 3.1 to 3.4). A frame that
 * is not understood is logged and dropped; it never ends the program.
 */
export class HubChannel implements Channel {
  readonly #base: Base;
  readonly #options: ChannelOptions;
  readonly #socket: WebSocket;
  #maxFrameBytes = LEGACY_MAX_FRAME_BYTES;
  #streamWindowBytes: number | undefined;
  #connected = false;
  #heardAt: number;
  #timers: Timer[] = [];
  #pingTimer: Timer | undefined;
  #watchTimer: Timer | undefined;
  readonly ended: Promise<ChannelEnd>;

  constructor(base: Base, options: ChannelOptions) {
    this.#base = base;
    this.#options = options;
    this.#heardAt = base.clock.elapsed();
    this.#socket = new WebSocket(options.url, {
      headers: { ...options.headers, "user-agent": `rootstock-runtime-broker/${VERSION}` },
      perMessageDeflate: false,
      followRedirects: false,
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: MAX_FRAME_BYTES,
    });
    this.ended = new Promise((resolve) => {
      let failure = "";
      this.#socket.on("error", (err) => {
        failure ||= err.message;
      });
      this.#socket.once("close", (code, reason) => {
        this.#stopTimers();
        options.listener.onClosed(this);
        resolve({ connected: this.#connected, code, reason: failure || reason.toString() });
      });
    });
    this.#socket.once("open", () => this.#onOpen());
    this.#socket.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    // Any sign of life extends the deadline: the hub's own pings as well as the answers to ours.
    for (const event of ["ping", "pong", "message"] as const) {
      this.#socket.on(event, () => {
        this.#heardAt = base.clock.elapsed();
      });
    }
  }

  get maxFrameBytes(): number {
    return this.#maxFrameBytes;
  }

  get streamWindowBytes(): number | undefined {
    return this.#streamWindowBytes;
  }

  get pendingBytes(): number {
    return this.#socket.bufferedAmount;
  }

  send(frame: FromRuntimeBroker | ConnectFrame, sent?: () => void): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify(frame), (err) => {
      if (err) this.#base.log.debug({ err }, "frame not sent");
      else sent?.();
    });
  }

  /** Closes with `code`; the socket is destroyed when the hub does not answer the close. */
  close(code: number, reason: string): void {
    if (this.#socket.readyState === WebSocket.CONNECTING) this.#socket.terminate();
    else this.#socket.close(code, reason);
    this.#timers.push(this.#base.clock.after(CLOSE_PATIENCE_MS, () => this.#socket.terminate()));
  }

  #onOpen(): void {
    const { clock } = this.#base;
    this.#heardAt = clock.elapsed();
    this.send({
      type: "connect",
      brokerId: this.#options.brokerId,
      version: VERSION,
      timestamp: Math.floor(clock.now() / 1000),
      rootstock: this.#options.extension,
    });
    this.#timers.push(
      clock.after(HANDSHAKE_MS, () => {
        if (!this.#connected) this.close(1002, "no connected frame");
      }),
    );
    this.#keepAlive(DEFAULT_PING_MS);
    this.#watch();
  }

  /** Ends a socket on which nothing has arrived until the read deadline. */
  #watch(): void {
    const leftMs = READ_DEADLINE_MS - (this.#base.clock.elapsed() - this.#heardAt);
    if (leftMs <= 0) {
      this.#base.log.warn("the hub has been silent for too long, closing");
      this.#socket.terminate();
      return;
    }
    this.#watchTimer = this.#base.clock.after(leftMs, () => this.#watch());
  }

  #keepAlive(pingMs: number): void {
    this.#pingTimer?.cancel();
    this.#pingTimer = this.#base.clock.after(Math.min(pingMs, READ_DEADLINE_MS / 2), () => {
      if (this.#socket.readyState === WebSocket.OPEN) this.#socket.ping();
      this.#keepAlive(pingMs);
    });
  }

  #onMessage(data: WebSocket.RawData, isBinary: boolean): void {
    const bytes = Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
    let value: unknown;
    try {
      value = JSON.parse(isBinary ? new TextDecoder("utf-8", { fatal: true }).decode(bytes) : bytes.toString());
    } catch {
      this.#base.log.warn({ bytes: bytes.byteLength }, "dropped a frame that is not JSON");
      return;
    }
    const parsed = toRuntimeBroker.safeParse(value);
    if (!parsed.success) {
      // Unknown types are ignored by both ends, so that either may learn new ones (spec/01 3.3).
      this.#base.log.debug({ issue: parsed.error.issues[0]?.message }, "dropped a frame that is not understood");
      return;
    }
    const frame = parsed.data;
    if (frame.type === "connected") this.#onConnected(frame);
    else if (frame.type === "ping") this.send({ type: "pong", timestamp: frame.timestamp ?? null });
    else if (frame.type !== "pong") this.#dispatch(frame);
  }

  #dispatch(frame: ToRuntimeBroker): void {
    try {
      this.#options.listener.onFrame(this, frame);
    } catch (err) {
      this.#base.log.error({ err, type: frame.type }, "handling a frame failed");
    }
  }

  #onConnected(frame: ConnectedFrame): void {
    if (this.#connected) return;
    this.#connected = true;
    this.#maxFrameBytes = frame.rootstock?.maxFrameBytes ?? LEGACY_MAX_FRAME_BYTES;
    this.#streamWindowBytes = frame.rootstock?.streamWindowBytes ?? undefined;
    if (frame.pingIntervalMs > 0) this.#keepAlive(frame.pingIntervalMs);
    this.#options.onConnected(frame);
  }

  #stopTimers(): void {
    this.#pingTimer?.cancel();
    this.#watchTimer?.cancel();
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
  }
}
