import type { Uuid } from "@rootstock/protocol";
import { type Base, Pacer, Pieces, type Timer } from "@rootstock/service";
import type { RawData, WebSocket } from "ws";
import { z } from "zod";
import type { StreamEnd, StreamHandler } from "../control/index.ts";
import { jsonOf, Keepalive, type KeepaliveTimes } from "../sockets/index.ts";
import { type AgentStream, type Tended, terminalSize } from "./agentStream.ts";
import {
  closeOf,
  errorCodeOf,
  INPUT_OVERFLOW,
  INVALID_FRAME,
  isFinal,
  LOST,
  SLOW_CONSUMER,
  type ViewerClose,
} from "./closeCodes.ts";
import { SessionLimits, type SessionLimitsOptions } from "./sessionLimits.ts";

export interface ViewerOptions extends SessionLimitsOptions {
  /** See {@link Tended}. */
  readonly standsBy?: ReadonlySet<Uuid> | undefined;
  /** What is typed is dropped. */
  readonly readonly: boolean;
  readonly onLeft: (viewer: Viewer) => void;
}

/** Server side of the attach protocol (spec/06 1.7). */
const KEEPALIVE: KeepaliveTimes = { pingMs: 30_000, silenceMs: 60_000 };
/** Output: with its base64 and envelope below the 64 KiB that clients read. */
const OUTPUT = { pieceBytes: 45_000, aheadBytes: 65_536 };
/** Input: keys go at once; of a paste the next piece follows when one was taken. */
const INPUT = { pieceBytes: 32_768, aheadBytes: 32_768 };
/** Input on its way to the program; above it the viewer's socket is not read. */
const INPUT_WINDOW_BYTES = 262_144;
/** What a socket may still deliver after it was asked to pause lies far below this. */
const MAX_INPUT_BYTES = 4_194_304;
/** For the last of the output, and the reason, to get through a slow line. */
const CLOSE_TIMEOUT_MS = 30_000;
/** The same where the replica stops. */
const LAST_MS = 5_000;
/** A window that is dragged changes size a hundred times a second; the program need not follow each. */
const RESIZE_EVERY_MS = 50;

const fromViewer = z.discriminatedUnion("type", [
  z.object({ type: z.literal("data"), data: z.string() }),
  z.object({ type: z.literal("resize"), cols: z.number(), rows: z.number() }),
]);
const typed = z.object({ type: z.string() });

/** One person at one terminal: their socket on one side, the terminal on the other. */
export class Viewer implements StreamHandler, Tended {
  readonly #base: Base;
  readonly #options: ViewerOptions;
  #ws: WebSocket | undefined;
  #terminal: AgentStream | undefined;
  #keepalive: Keepalive | undefined;
  #limits: SessionLimits | undefined;
  /** Output that came before the socket was there. */
  readonly #early = new Pieces(OUTPUT.pieceBytes);
  #ended: StreamEnd | undefined;
  readonly #input: Pacer;
  readonly #output: Pacer;
  #size: { readonly cols: number; readonly rows: number } | undefined;
  #resizing: Timer | undefined;
  #closing = false;

  constructor(base: Base, options: ViewerOptions) {
    this.#base = base;
    this.#options = options;
    this.#input = new Pacer({ ...INPUT, transmit: (piece) => this.#terminal?.write(piece) });
    this.#output = new Pacer({ ...OUTPUT, transmit: (piece) => this.#send(piece) });
  }

  /** The upgrade is done: what came meanwhile is shown. */
  begin(ws: WebSocket, terminal: AgentStream): void {
    this.#ws = ws;
    this.#terminal = terminal;
    this.#keepalive = new Keepalive(ws, this.#base.clock, KEEPALIVE);
    this.#limits = new SessionLimits(this.#base, this.#options, (close) => this.#close(close));
    ws.on("message", (data) => this.#receive(data));
    ws.on("error", (err) => this.#base.log.debug({ err }, "socket of a terminal's viewer failed"));
    ws.on("close", () => {
      this.#resizing?.cancel();
      terminal.close("session closed");
      this.#options.onLeft(this);
    });
    for (let data = this.#early.shift(); data; data = this.#early.shift()) this.#show(data);
    if (this.#ended) this.#close(closeOf(this.#ended));
  }

  onData(data: Buffer): void {
    if (this.#ws) this.#show(data);
    else this.#early.push(data);
  }

  onTaken(bytes: number): void {
    this.#input.done(bytes);
    if (this.#ws?.isPaused && this.#input.heldBytes < INPUT_WINDOW_BYTES / 2) this.#ws.resume();
  }

  onClose(end: StreamEnd): void {
    this.#ended = end;
    if (this.#ws) this.#close(closeOf(end));
  }

  get standsBy(): ReadonlySet<Uuid> | undefined {
    return this.#options.standsBy;
  }

  recheck(): void {
    this.#limits?.recheck();
  }

  tick(now: number): void {
    this.#keepalive?.tick(now);
    this.#limits?.tick(now);
  }

  shutDown(): void {
    this.#close(closeOf({ code: undefined, reason: LOST.shuttingDown }), LAST_MS);
  }

  #show(data: Buffer): void {
    if (this.#closing) return;
    this.#limits?.active();
    this.#output.push(data);
  }

  #send(piece: Buffer): void {
    const { byteLength } = piece;
    this.#ws?.send(JSON.stringify({ type: "data", data: piece.toString("base64") }), (err) => {
      if (err) return;
      this.#output.done(byteLength);
      this.#terminal?.consumed(byteLength);
    });
  }

  #receive(data: RawData): void {
    if (this.#closing) return;
    const value = jsonOf(data);
    const frame = fromViewer.safeParse(value);
    if (!frame.success) {
      // Types that a later version may know are nobody's business here.
      const other = typed.safeParse(value);
      if (!other.success || ["data", "resize"].includes(other.data.type)) this.#close(INVALID_FRAME);
    } else if (this.#options.readonly) return;
    else if (frame.data.type === "resize") {
      this.#size = terminalSize(frame.data.cols, frame.data.rows);
      if (!this.#resizing) this.#resize();
    } else this.#type(Buffer.from(frame.data.data, "base64"));
  }

  /** Tells the newest size, and the one after it not before a while. */
  #resize(): void {
    const size = this.#size;
    this.#size = undefined;
    this.#resizing = size && this.#base.clock.after(RESIZE_EVERY_MS, () => this.#resize());
    if (size) this.#terminal?.resize(size.cols, size.rows);
  }

  #type(input: Buffer): void {
    this.#limits?.active();
    this.#input.push(input);
    if (this.#input.heldBytes > MAX_INPUT_BYTES) this.#close(INPUT_OVERFLOW);
    else if (this.#input.heldBytes > INPUT_WINDOW_BYTES) this.#ws?.pause();
  }

  #close({ code, reason }: ViewerClose, timeoutMs = CLOSE_TIMEOUT_MS): void {
    const ws = this.#ws;
    if (this.#closing || !ws) return;
    this.#closing = true;
    // Who does not read would have it kept here, and hear the reason after all of it.
    if (code === SLOW_CONSUMER.code) this.#output.drop();
    else this.#output.flush();
    if (ws.isPaused) ws.resume();
    // Older clients show this; current ones go by the code, and must not be kept from coming back.
    if (isFinal(code)) ws.send(JSON.stringify({ type: "error", code: errorCodeOf(code), message: reason }));
    ws.close(code, reason);
    const timer = this.#base.clock.after(timeoutMs, () => ws.terminate());
    ws.once("close", () => timer.cancel());
  }
}
