import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HubError, type Uuid, wireError } from "@rootstock/protocol";
import { type Base, Loop, type Service } from "@rootstock/service";
import { type RawData, WebSocket } from "ws";
import type { Credentials, Principal } from "../auth/index.ts";
import { jsonOf, Keepalive } from "./keepalive.ts";
import {
  type AnswerFrame,
  CALLS_KEEPALIVE,
  CALLS_TICK_MS,
  callFrame,
  INTERNAL_CALLS_PATH,
  MAX_CALL_BYTES,
  MAX_CALLS_UNDER_WAY,
  MAX_UNREAD_BYTES,
  type PeerAnswer,
} from "./peerCallFrames.ts";
import { type Met, type Prepared, type Refused, refusing, Upgrades } from "./upgrades.ts";

/** What answers a call, given its body as it came. Throws `HubError` for a refusal. */
export type AnswersPeer = (body: unknown, caller: Uuid) => Promise<PeerAnswer>;

export interface CalledByPeersDeps {
  /** By the names of the calls. */
  readonly answers: Readonly<Record<string, AnswersPeer>>;
  readonly authenticate: (credentials: Credentials) => Promise<Principal>;
  readonly toError: (err: unknown) => HubError;
  readonly met: Met;
  /** Told of who is refused for want of rights; nobody waits for that. */
  readonly refused: Refused;
  /** False while the replica starts: what answers is not there yet. */
  readonly serving: () => boolean;
  readonly answered: (call: string, status: number, seconds: number) => void;
}

/** Whoever does not close its end has gone away. */
const CLOSE_MS = 1_000;
const GOING_AWAY = { code: 1012, reason: "this replica is shutting down" };
const INVALID_FRAME = 4400;

/** Answers the calls of other replicas, over the sockets that they dial ({@link PeerCalls} is the other end). */
export class CalledByPeers implements Service {
  readonly #base: Base;
  readonly #deps: CalledByPeersDeps;
  readonly #upgrades: Upgrades;
  readonly #callers = new Set<Caller>();
  readonly #loop: Loop;
  #stopped = false;

  constructor(base: Base, deps: CalledByPeersDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#upgrades = new Upgrades({ maxPayload: MAX_CALL_BYTES, toError: deps.toError });
    this.#loop = new Loop(base.log, "called by peers", async (signal) => {
      while (!signal.aborted) {
        await base.clock.sleep(CALLS_TICK_MS, signal);
        const now = base.clock.elapsed();
        for (const caller of this.#callers) caller.tick(now);
      }
    });
  }

  start(): Promise<void> {
    this.#stopped = false;
    return this.#loop.start();
  }

  /** Answers what is under way, refuses what comes, and closes the sockets. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#callers].map((caller) => caller.end()));
    await this.#loop.stop();
  }

  handles(url: string | undefined): boolean {
    return url?.split("?", 1)[0] === INTERNAL_CALLS_PATH;
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#upgrades.take(request, socket, head, (credentials) => this.#prepare(credentials));
  }

  async #prepare(credentials: Credentials): Promise<Prepared> {
    const { authenticate, met, refused, serving } = this.#deps;
    if (!serving()) throw new HubError("unavailable", "this replica is starting", { retryAfter: 1 });
    const principal = await authenticate(credentials);
    met(principal, credentials);
    if (principal.kind === "nobody") throw new HubError("unauthorized", "missing replica token");
    if (principal.kind !== "replica") throw refusing(refused, principal, credentials, "only replicas may do this");
    if (this.#stopped) throw new HubError("unavailable", "this replica is shutting down");
    return { begin: (ws) => this.#begin(ws, principal.instanceId), abandon: () => {} };
  }

  #begin(ws: WebSocket, instanceId: Uuid): void {
    const answer = (name: string, body: unknown) => this.#answer(name, body, instanceId);
    const caller = new Caller(this.#base, ws, answer);
    this.#callers.add(caller);
    ws.on("error", (err) => this.#base.log.debug({ err, peer: instanceId }, "socket of a peer replica failed"));
    ws.once("close", () => this.#callers.delete(caller));
    if (this.#stopped) void caller.end();
  }

  async #answer(name: string, body: unknown, instanceId: Uuid): Promise<PeerAnswer> {
    const { answers, toError, answered } = this.#deps;
    const { clock } = this.#base;
    const started = clock.elapsed();
    const work = Object.hasOwn(answers, name) ? answers[name] : undefined;
    let answer: PeerAnswer;
    try {
      if (!work) throw new HubError("not_found", "no such call");
      if (this.#stopped) throw new HubError("unavailable", "this replica is shutting down");
      answer = await work(body, instanceId);
    } catch (err) {
      const refusal = toError(err);
      answer = { status: refusal.status, body: wireError(refusal) };
    }
    answered(work ? name : "none", answer.status, (clock.elapsed() - started) / 1000);
    return answer;
  }
}

/** One socket that another replica has dialled. */
class Caller {
  readonly #base: Base;
  readonly #ws: WebSocket;
  readonly #keepalive: Keepalive;
  readonly #answer: (name: string, body: unknown) => Promise<PeerAnswer>;
  readonly #underWay = new Set<Promise<void>>();

  constructor(base: Base, ws: WebSocket, answer: (name: string, body: unknown) => Promise<PeerAnswer>) {
    this.#base = base;
    this.#ws = ws;
    this.#keepalive = new Keepalive(ws, base.clock, CALLS_KEEPALIVE);
    this.#answer = answer;
    ws.on("message", (data, isBinary) => this.#receive(data, isBinary));
  }

  tick(now: number): void {
    this.#keepalive.tick(now);
  }

  async end(): Promise<void> {
    await Promise.all(this.#underWay);
    this.#ws.close(GOING_AWAY.code, GOING_AWAY.reason);
    const timer = this.#base.clock.after(CLOSE_MS, () => this.#ws.terminate());
    this.#ws.once("close", () => timer.cancel());
  }

  #receive(data: RawData, isBinary: boolean): void {
    const frame = isBinary ? undefined : callFrame.safeParse(jsonOf(data)).data;
    if (!frame) {
      this.#ws.close(INVALID_FRAME, "invalid_message");
      return;
    }
    const { id, call, body } = frame;
    if (this.#underWay.size >= MAX_CALLS_UNDER_WAY) {
      this.#tell({ id, ...BUSY });
      return;
    }
    const work: Promise<void> = this.#answer(call, body)
      .then((answer) => this.#tell({ id, ...answer }))
      .finally(() => this.#underWay.delete(work));
    this.#underWay.add(work);
  }

  #tell(answer: AnswerFrame): void {
    // Who asks and does not read would have the answers kept here for ever.
    if (this.#ws.bufferedAmount > MAX_UNREAD_BYTES) this.#ws.terminate();
    else if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send(JSON.stringify(answer));
  }
}

const busy = new HubError("unavailable", "too many calls of this replica are under way");
const BUSY: PeerAnswer = { status: busy.status, body: wireError(busy) };
