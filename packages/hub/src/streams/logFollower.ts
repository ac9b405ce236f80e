import type { LogPlace, Uuid } from "@rootstock/protocol";
import { type Base, Pieces } from "@rootstock/service";
import type { StreamEnd, StreamHandler } from "../control/index.ts";
import type { AgentStream, Tended } from "./agentStream.ts";
import { closeOf, LOST, mayComeBack, SLOW_CONSUMER, TIME_LIMIT, type ViewerClose } from "./closeCodes.ts";
import { LogEvents } from "./logEvents.ts";
import { SessionLimits, type SessionLimitsOptions } from "./sessionLimits.ts";

export interface LogFollowerOptions extends Omit<SessionLimitsOptions, "idleMs"> {
  /** See {@link Tended}. */
  readonly standsBy?: ReadonlySet<Uuid> | undefined;
  readonly onLeft: (follower: LogFollower) => void;
  /** Where its client has been before; see `LogPlace`. */
  readonly after?: LogPlace | undefined;
}

/** So much of the answer may wait for its reader; a log that comes faster waits at the runtime broker. */
const AHEAD_BYTES = 65_536;
/** Lines are made into events so many bytes at a time: an event is many times as long as a short line. */
const PIECE_BYTES = 8_192;
const HEARTBEAT_MS = 15_000;
const CLEAN_END = 1000;
/** A reader that takes nothing for so long although there is something counts as gone. */
const STALLED_MS = 60_000;

const HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache, no-transform",
  connection: "keep-alive",
  "x-accel-buffering": "no",
};

/**
 * One client that follows an agent's log, as events in the form of the log streams that clients know (spec/02 section 8):
 * `event: log` with an entry for each line; at its end `event: end`, `event: timeout`, or `event: error` with a close
 * code of spec/08 1.6 and whether to come back. Whoever comes back with the last id goes on after its line.
 */
export class LogFollower implements StreamHandler, Tended {
  readonly #base: Base;
  readonly #options: LogFollowerOptions;
  readonly #events: LogEvents;
  readonly #limits: SessionLimits;
  readonly #encoder = new TextEncoder();
  readonly #waiting = new Pieces(PIECE_BYTES);
  #stream: AgentStream | undefined;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #end: ViewerClose | undefined;
  #wroteAt: number;
  #movedAt: number;
  #pumping = false;
  #over = false;

  constructor(base: Base, options: LogFollowerOptions) {
    this.#base = base;
    this.#options = options;
    this.#events = new LogEvents(base.clock, options.after);
    this.#limits = new SessionLimits(base, { ...options, idleMs: 0 }, (close) => this.#finish(close));
    this.#wroteAt = base.clock.elapsed();
    this.#movedAt = this.#wroteAt;
  }

  /** The answer, at the speed of its reader. */
  respond(stream: AgentStream): Response {
    this.#stream = stream;
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
          this.#write(": following\n\n");
          this.#pump();
        },
        pull: () => this.#pump(),
        cancel: () => this.#leave(),
      },
      { highWaterMark: AHEAD_BYTES, size: (chunk) => chunk?.byteLength ?? 0 },
    );
    return new Response(body, { headers: HEADERS });
  }

  onData(data: Buffer): void {
    if (this.#over) return;
    this.#waiting.push(data);
    this.#pump();
  }

  onTaken(): void {}

  onClose(end: StreamEnd): void {
    this.#finish(closeOf(end));
  }

  get standsBy(): ReadonlySet<Uuid> | undefined {
    return this.#options.standsBy;
  }

  recheck(): void {
    this.#limits.recheck();
  }

  tick(now: number): void {
    this.#limits.tick(now);
    if (this.#hasRoom()) {
      this.#movedAt = now;
      if (now - this.#wroteAt >= HEARTBEAT_MS) this.#write(": heartbeat\n\n");
    } else if (now - this.#movedAt >= STALLED_MS) {
      // It reads nothing: a broken connection is all that it can be told.
      this.#controller?.error(new Error(SLOW_CONSUMER.reason));
      this.#leave();
    }
  }

  shutDown(): void {
    this.#finish(closeOf({ code: undefined, reason: LOST.shuttingDown }));
  }

  /** What is there is shown first. */
  #finish(close: ViewerClose): void {
    this.#end ??= close;
    this.#pump();
  }

  /** What is handed over may be asked for on the spot: the next piece then waits for its turn. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#step());
    this.#pumping = false;
  }

  #step(): boolean {
    if (this.#over || !this.#hasRoom()) return false;
    this.#movedAt = this.#base.clock.elapsed();
    const piece = this.#waiting.shift();
    if (!piece) {
      if (this.#end) this.#close(this.#end);
      return false;
    }
    this.#write(this.#events.push(piece));
    this.#stream?.consumed(piece.byteLength);
    return true;
  }

  #close(close: ViewerClose): void {
    // Where the log goes on, a line without an end comes whole to whoever comes back.
    this.#write((close.code === CLEAN_END ? this.#events.rest() : "") + farewell(close));
    this.#controller?.close();
    this.#leave();
  }

  #write(text: string): void {
    if (text === "" || this.#over) return;
    this.#wroteAt = this.#base.clock.elapsed();
    this.#controller?.enqueue(this.#encoder.encode(text));
  }

  #hasRoom(): boolean {
    return (this.#controller?.desiredSize ?? 0) > 0;
  }

  #leave(): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting.clear();
    this.#stream?.close("session closed");
    this.#options.onLeft(this);
  }
}

const farewell = (close: ViewerClose): string => {
  const { code, reason } = close;
  if (close === TIME_LIMIT) return "event: timeout\ndata: {}\n\n";
  const data = JSON.stringify({ code, reason, reconnect: mayComeBack(code) });
  return `event: ${code === CLEAN_END ? "end" : "error"}\ndata: ${data}\n\n`;
};
