import type { Clock } from "@rootstock/service";
import type { WebSocket } from "ws";

export interface KeepaliveTimes {
  readonly pingMs: number;
  /** After so much silence the other end counts as gone. */
  readonly silenceMs: number;
}

/** A socket that is not read tells that the other end is gone when something is written to it, the second time. */
const UNREAD_PING_MS = 5_000;

/** Pings one socket and destroys it when nothing is heard of the other end. */
export class Keepalive {
  readonly #ws: WebSocket;
  readonly #clock: Clock;
  readonly #times: KeepaliveTimes;
  #heardAt: number;
  #pingedAt: number;

  constructor(ws: WebSocket, clock: Clock, times: KeepaliveTimes) {
    this.#ws = ws;
    this.#clock = clock;
    this.#times = times;
    this.#heardAt = clock.elapsed();
    this.#pingedAt = this.#heardAt;
    for (const event of ["message", "ping", "pong"] as const) ws.on(event, () => this.heard());
  }

  heard(): void {
    this.#heardAt = this.#clock.elapsed();
  }

  /** How long nothing was heard, in milliseconds. `now`: the clock's `elapsed`. */
  silentMs(now: number): number {
    return now - this.#heardAt;
  }

  /** `now`: the clock's `elapsed`. A socket that is not read cannot be heard, and is left alone. */
  tick(now: number): void {
    const { isPaused } = this.#ws;
    if (isPaused) this.#heardAt = now;
    const pingMs = isPaused ? Math.min(this.#times.pingMs, UNREAD_PING_MS) : this.#times.pingMs;
    if (now - this.#heardAt > this.#times.silenceMs) this.#ws.terminate();
    else if (now - this.#pingedAt >= pingMs && this.#ws.readyState === this.#ws.OPEN) {
      this.#pingedAt = now;
      this.#ws.ping();
    }
  }
}

/** The bytes of a message, however the socket hands them over. */
export const bytesOf = (data: Buffer | ArrayBuffer | Buffer[]): Buffer =>
  Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);

/** The value of a JSON message; undefined when it is none. */
export const jsonOf = (data: Buffer | ArrayBuffer | Buffer[]): unknown => {
  try {
    return JSON.parse(bytesOf(data).toString("utf8"));
  } catch {
    return undefined;
  }
};
