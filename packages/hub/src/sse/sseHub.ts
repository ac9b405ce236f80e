import type { Uuid } from "@rootstock/protocol";
import { type Base, Lifecycle, onceAt, type Service } from "@rootstock/service";
import type { Database } from "@rootstock/store";
import type { ProjectResource } from "../auth/index.ts";
import {
  type Batch,
  ChangeFeed,
  decodePosition,
  type EventBus,
  encodePosition,
  firstMatch,
  type HubEvent,
  includes,
  isVisible,
  type Position,
  PositionEncoder,
  positionAfter,
  type Resync,
  SubjectIndex,
} from "../bus/index.ts";
import { type SseEnd, type SseFrame, type SseLimits, type SseRequest, SseStream } from "./sseStream.ts";

export interface SseHubOptions {
  readonly database: Database;
  /** To be started before and stopped after. */
  readonly bus: EventBus;
  /** Milliseconds between heartbeats of a quiet stream; 15,000 by default. */
  readonly heartbeatMs?: number;
  readonly limits?: SseLimits;
}

/** An upper bound for what one slow client makes a replica hold: frames, and characters in them. */
const LIMITS: SseLimits = { frames: 1_024, characters: 8 * 1024 * 1024 };
const RETRY_MS = 1_000;
const BEATS_PER_LOOK = 4;
/** Bounds for the wait that clients of a stopping replica are asked for, so that they do not all come back at once. */
const FAREWELL_RETRY_MS = 2_000;

/**
 * The clients that listen to this replica (spec/07 B.6). Every frame carries an opaque position, valid on every replica:
 * who comes back with the last one gets every later event once, or is told in the stream that it must read anew.
 */
export class SseHub implements Service {
  readonly #base: Base;
  readonly #options: SseHubOptions;
  readonly #feed: ChangeFeed;
  readonly #lifecycle: Lifecycle;
  /** Those that are told what the reader reads, by what they asked for. */
  readonly #live = new SubjectIndex<SseStream>();
  readonly #liveStreams = new Set<SseStream>();
  /** Those of them that had read further than the reader when they joined. */
  readonly #ahead = new Set<SseStream>();
  readonly #open = new Map<SseStream, Promise<SseEnd>>();
  readonly #json = new WeakMap<HubEvent, string>();
  readonly #ids = new PositionEncoder();
  #running = false;
  #off: (() => void) | undefined;

  constructor(base: Base, options: SseHubOptions) {
    this.#base = base;
    this.#options = options;
    this.#feed = new ChangeFeed(options.database.db);
    this.#lifecycle = new Lifecycle(
      async () => {
        this.#off = options.bus.onOutcome((outcome) => this.#tell(outcome), this.#live.interest);
        this.#running = true;
      },
      () => this.#stop(),
    );
  }

  /** How many streams are open. */
  count(): number {
    return this.#open.size;
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Ends every stream; the clients are asked to come back after a moment of their own. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Serves one client until it or this replica ends it. Never rejects. */
  open(request: SseRequest): Promise<SseEnd> {
    const { recheck } = request;
    const { database, limits = LIMITS } = this.#options;
    // A change of everybody's rights has all streams looked at: calls must not queue behind that.
    const looked = recheck && { recheck: () => database.background(recheck) };
    const stream = new SseStream({ ...request, ...looked }, this.#base, limits);
    if (!this.#running) stream.end("stopped");
    const served = this.#serve(stream).finally(() => {
      this.#open.delete(stream);
      request.onEnd?.();
    });
    this.#open.set(stream, served);
    return served;
  }

  /** Rights have changed, those that hang on `id` or anybody's: ends the streams of those who may not go on. */
  recheck(id?: Uuid): void {
    for (const stream of this.#open.keys())
      if (id === undefined || (stream.request.standsBy?.has(id) ?? true)) stream.recheck();
  }

  /** Who may read a project has changed, or which agents, where it is absent. */
  sightChanged(project?: ProjectResource): void {
    for (const stream of this.#open.keys()) if (stream.request.sightChanged?.(project) ?? true) stream.recheck();
  }

  async #stop(): Promise<void> {
    this.#running = false;
    this.#off?.();
    for (const stream of this.#open.keys()) stream.end("stopped");
    await Promise.all(this.#open.values());
  }

  async #serve(stream: SseStream): Promise<SseEnd> {
    const { clock } = this.#base;
    const { expireAfterMs, until } = stream.request;
    const expiry = expireAfterMs === undefined ? undefined : clock.after(expireAfterMs, () => stream.end("expired"));
    const proven = until === undefined ? undefined : onceAt(clock, until, () => stream.end("refused"));
    let leave: () => void = () => {};
    try {
      // What has changed since it was let in was told when it was not among the streams yet.
      await stream.firstLook();
      leave = await this.#replayAndJoin(stream);
      await this.#pump(stream);
    } catch (err) {
      // The database failed under a replay: the client comes back with the position it has.
      this.#base.log.warn({ err }, "event stream given up");
      stream.end("stopped");
    } finally {
      leave();
      expiry?.cancel();
      proven?.cancel();
    }
    const end = stream.ended() ?? "closed";
    if (end === "expired") stream.farewell("event: timeout\ndata: {}\n\n");
    else stream.farewell(`retry: ${Math.round(this.#base.random.fraction() * FAREWELL_RETRY_MS)}\n\n`);
    return end;
  }

  /**
   * Brings the client from its position up to the replica's reader, and joins it to the live streams in the very moment
   * in which all that the reader has handed on is queued: no gap, and nothing twice. Returns how to leave them.
   */
  async #replayAndJoin(stream: SseStream): Promise<() => void> {
    const { bus, database } = this.#options;
    const { lastEventId } = stream.request;
    const given = lastEventId ? decodePosition(lastEventId) : undefined;
    const retry = `retry: ${RETRY_MS + Math.round(this.#base.random.fraction() * RETRY_MS)}\n`;
    if (!given) {
      const now = bus.position();
      stream.push(retry + (lastEventId ? resyncFrame("epoch", now) : `${idLine(now)}\n`));
      return this.#join(stream);
    }
    stream.push(`${retry}${idLine(given)}\n`);
    const wanted = (subjects: readonly string[]) => firstMatch(stream.request.patterns, subjects) !== undefined;
    let at = given;
    do {
      await stream.flush();
      const from = at;
      const { outcome } = await database.background(() => this.#feed.read(from, wanted));
      if (outcome.kind === "resync") stream.push(resyncFrame(outcome.reason, outcome.to));
      else await this.#queueReplayed(stream, outcome);
      at = outcome.to;
      // A reader that has not noticed yet that positions of another history are void.
      if (at.epoch !== bus.position().epoch) await bus.catchUp();
    } while (!stream.ended() && !this.#isCaughtUp(at));
    stream.behind = { seen: at.seen, told: at };
    return this.#join(stream);
  }

  async #queueReplayed(stream: SseStream, batch: Batch): Promise<void> {
    for (const [i, event] of batch.events.entries()) {
      const subject = firstMatch(stream.request.patterns, event.subjects);
      if (subject === undefined || !this.#allows(stream, event)) continue;
      const frame = eventFrame(encodePosition(positionAfter(batch, i)), this.#format(stream, event, subject));
      // A replay goes as fast as the client reads; only what happens meanwhile can be too much for it.
      if (!stream.hasRoom(frame.length)) await stream.flush();
      stream.push(frame);
    }
  }

  /** Whether all that the reader has handed on is part of `at`. */
  #isCaughtUp(at: Position): boolean {
    const reader = this.#options.bus.position();
    return !at.page && at.epoch === reader.epoch && includes(at.seen, reader.page?.target ?? reader.seen);
  }

  #join(stream: SseStream): () => void {
    const leave = this.#live.add(stream.request.patterns, stream);
    this.#liveStreams.add(stream);
    if (stream.behind) this.#ahead.add(stream);
    return () => {
      leave();
      this.#liveStreams.delete(stream);
      this.#ahead.delete(stream);
    };
  }

  async #pump(stream: SseStream): Promise<void> {
    const every = this.#options.heartbeatMs ?? 15_000;
    let due = this.#base.clock.elapsed() + every;
    let beats = 0;
    while (!stream.ended()) {
      await stream.flush();
      await stream.idle(Math.max(0, due - this.#base.clock.elapsed()));
      if (stream.ended() || this.#base.clock.elapsed() < due) continue;
      due = this.#base.clock.elapsed() + every;
      beats += 1;
      // What time alone changes, such as a policy that holds until a day, is told by nobody.
      if (beats % BEATS_PER_LOOK === 0) stream.recheck();
      // Also keeps the position of a client that hears nothing from growing older than the log.
      await stream.flush();
      const told = stream.behind?.told ?? this.#options.bus.position();
      stream.push(`:heartbeat ${this.#base.clock.now()}\n${idLine(told)}\n`);
    }
  }

  #tell(outcome: Batch | Resync): void {
    if (outcome.kind === "resync") this.#tellResync(outcome);
    else this.#tellBatch(outcome);
  }

  #tellBatch(outcome: Batch): void {
    for (const [i, event] of outcome.events.entries()) {
      let shared: { readonly subject: string; readonly frame: string } | undefined;
      for (const [stream, subject] of this.#live.find(event.subjects)) {
        const { behind } = stream;
        if (behind && isVisible(event.origin.tx, behind.seen)) continue;
        if (!this.#allows(stream, event)) continue;
        if (behind) {
          // A client that had read further than the reader has another past: its position names that one.
          const told = positionAfter(outcome, i, behind.seen);
          stream.push(eventFrame(encodePosition(told), this.#format(stream, event, subject)));
          behind.told = told;
        } else if (stream.request.format)
          stream.push(eventFrame(this.#idOf(outcome, i), this.#format(stream, event, subject)));
        else {
          // The same text for everybody who asked for it by the same name.
          if (shared?.subject !== subject)
            shared = { subject, frame: eventFrame(this.#idOf(outcome, i), this.#format(stream, event, subject)) };
          stream.push(shared.frame);
        }
      }
    }
    if (outcome.to.page) return;
    for (const stream of this.#ahead) {
      if (!stream.behind || !includes(outcome.target, stream.behind.seen)) continue;
      stream.behind = undefined;
      this.#ahead.delete(stream);
    }
  }

  #idOf(outcome: Batch, index: number): string {
    return this.#ids.encode(positionAfter(outcome, index));
  }

  #tellResync(resync: Resync): void {
    for (const stream of this.#liveStreams) {
      stream.behind = undefined;
      stream.push(resyncFrame(resync.reason, resync.to));
    }
    this.#ahead.clear();
  }

  #allows(stream: SseStream, event: HubEvent): boolean {
    try {
      return event.entity !== "sight" && stream.request.allow(event);
    } catch (err) {
      this.#base.log.error({ err }, "event not authorised");
      return false;
    }
  }

  #format(stream: SseStream, event: HubEvent, subject: string): SseFrame {
    if (stream.request.format) return stream.request.format(event, subject);
    const data = this.#json.get(event) ?? JSON.stringify(event.data);
    this.#json.set(event, data);
    return { event: "update", data: `{"subject":${JSON.stringify(subject)},"data":${data}}` };
  }
}

const idLine = (position: Position): string => `id: ${encodePosition(position)}\n`;
const eventFrame = (id: string, frame: SseFrame): string => `id: ${id}\nevent: ${frame.event}\ndata: ${frame.data}\n\n`;
const resyncFrame = (reason: string, position: Position): string =>
  eventFrame(encodePosition(position), { event: "resync", data: reason });
