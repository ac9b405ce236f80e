import type { Clock, Timer } from "@rootstock/service";
import { type RawData, WebSocket } from "ws";
import { REPLICA_TOKEN_HEADER } from "../auth/index.ts";
import { jsonOf, Keepalive } from "./keepalive.ts";
import {
  answerFrame,
  CALLS_KEEPALIVE,
  type CallFrame,
  INTERNAL_CALLS_PATH,
  MAX_CALL_BYTES,
  MAX_CALLS_UNDER_WAY,
  MAX_UNREAD_BYTES,
  type PeerAnswer,
} from "./peerCallFrames.ts";

/** A call without an answer: whether it was carried out is not known. */
export class NoPeerAnswer extends Error {
  override readonly name = "NoPeerAnswer";
}

interface Asked {
  readonly resolve: (answer: PeerAnswer) => void;
  readonly reject: (err: NoPeerAnswer) => void;
  readonly timer: Timer;
}

/** The dialling end of an open socket between two replicas, with any number of calls under way. */
export class PeerSocket {
  readonly #clock: Clock;
  readonly #ws: WebSocket;
  readonly #keepalive: Keepalive;
  readonly #asked = new Map<number, Asked>();
  #lastId = 0;

  constructor(clock: Clock, ws: WebSocket, onGone: () => void) {
    this.#clock = clock;
    this.#ws = ws;
    this.#keepalive = new Keepalive(ws, clock, CALLS_KEEPALIVE);
    ws.on("message", (data, isBinary) => this.#receive(data, isBinary));
    ws.once("close", () => {
      onGone();
      for (const id of [...this.#asked.keys()])
        this.#take(id)?.reject(new NoPeerAnswer("the socket to the peer replica was lost"));
    });
  }

  /** False once it closes: no call goes over it any more. */
  get open(): boolean {
    return this.#ws.readyState === WebSocket.OPEN;
  }

  /** Whether it takes no more calls for now: the other end is behind. */
  get full(): boolean {
    return this.#asked.size >= MAX_CALLS_UNDER_WAY || this.#ws.bufferedAmount > MAX_UNREAD_BYTES;
  }

  /** Sends a call and waits for its answer. Throws {@link NoPeerAnswer}. */
  ask(call: string, body: object, timeoutMs: number): Promise<PeerAnswer> {
    this.#lastId += 1;
    const id = this.#lastId;
    if (!this.open) return Promise.reject(new NoPeerAnswer("the socket to the peer replica is closed"));
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(timeoutMs, () => this.#take(id)?.reject(new NoPeerAnswer("no answer in time")));
      this.#asked.set(id, { resolve, reject, timer });
      // What fails closes the socket, and every call with it.
      this.#ws.send(JSON.stringify({ id, call, body } satisfies CallFrame));
    });
  }

  /** `now`: the clock's `elapsed`. */
  tick(now: number): void {
    this.#keepalive.tick(now);
  }

  /** Nobody waits any more for what is under way. */
  close(): void {
    this.#ws.terminate();
  }

  #take(id: number): Asked | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    asked?.timer.cancel();
    return asked;
  }

  #receive(data: RawData, isBinary: boolean): void {
    const frame = isBinary ? undefined : answerFrame.safeParse(jsonOf(data)).data;
    // An answer that came too late has nobody left to take it.
    if (frame) this.#take(frame.id)?.resolve({ status: frame.status, body: frame.body });
    else this.close();
  }
}

export interface PeerDial {
  /** The peer's internal URL. */
  readonly url: URL;
  readonly token: string;
  readonly timeoutMs: number;
  /** Gives it up. */
  readonly signal: AbortSignal;
}

/** The socket, or the status with which it was refused. Rejects when the peer is not reached. */
export const dialPeer = ({
  url,
  token,
  timeoutMs,
  signal,
}: PeerDial): Promise<WebSocket | { readonly refused: number }> => {
  const at = new URL(INTERNAL_CALLS_PATH, url);
  at.protocol = at.protocol === "https:" ? "wss:" : "ws:";
  const ws = new WebSocket(at, {
    headers: { [REPLICA_TOKEN_HEADER]: token },
    handshakeTimeout: timeoutMs,
    perMessageDeflate: false,
    followRedirects: false,
    maxPayload: MAX_CALL_BYTES,
  });
  const giveUp = () => ws.terminate();
  signal.addEventListener("abort", giveUp, { once: true });
  for (const settled of ["open", "close"]) ws.once(settled, () => signal.removeEventListener("abort", giveUp));
  return new Promise((resolve, reject) => {
    // Stays: a failure of the open socket is heard of when it closes.
    ws.on("error", reject);
    ws.once("open", () => resolve(ws));
    ws.once("unexpected-response", (_, response) => {
      resolve({ refused: response.statusCode ?? 0 });
      response.resume();
      ws.terminate();
    });
  });
};
