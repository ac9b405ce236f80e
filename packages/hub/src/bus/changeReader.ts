import { type Base, Hook, Lifecycle, Loop, type Service, SingleFlight, type Timer } from "@rootstock/service";
import { type Database, type Listener, verifyHistory } from "@rootstock/store";
import { type Batch, ChangeFeed, type Resync, type Step } from "./changeFeed.ts";
import type { Interest } from "./interest.ts";
import type { Position } from "./position.ts";

export interface ChangeReaderOptions {
  readonly database: Database;
  /** To be started before the reader: listening first, then the starting position, leaves no gap. */
  readonly listener: Listener;
}

export interface ReaderStats {
  /** How old the oldest change of the last batch was when it was read, in milliseconds. */
  readonly lagMs: number;
  /** Transactions between the oldest one still open anywhere in the cluster and the newest. */
  readonly xminAge: number;
  /** Changes read since the start, whether anybody was told of them or not. */
  readonly events: number;
  readonly resyncs: number;
}

/**
 * How long a signal without hurry is let lie. It tells of a commit that somebody is at work on: read at once, on every
 * replica, the change would keep that from going on.
 */
const LINGER_MS = 5;
/** The pause after a read that found something: under load, changes then share reads instead of each costing one. */
const BREATHER_MS = 10;
/** The pause after one that found many: each read, and each write to each listener, costs the same for many as for few. */
const LONG_BREATHER_MS = 20;
const MANY_CHANGES = 50;

/**
 * The one reader of a replica (design section 6): reads what has become visible since its last read, on each signal and
 * on each fallback poll, and hands it on in order. It starts at the head; a failed read is repeated.
 */
export class ChangeReader implements Service {
  readonly #base: Base;
  readonly #options: ChangeReaderOptions;
  readonly #feed: ChangeFeed;
  readonly #outcomes: Hook<Batch | Resync>;
  readonly #wishes = new Set<Interest>();
  readonly #reading: SingleFlight;
  readonly #polling: Loop;
  readonly #lifecycle: Lifecycle;
  #position: Position | undefined;
  #running = false;
  #historyChecked = false;
  #failing = false;
  #lingering: Timer | undefined;
  #stats: ReaderStats = { lagMs: 0, xminAge: 0, events: 0, resyncs: 0 };
  #offs: (() => void)[] = [];

  constructor(base: Base, options: ChangeReaderOptions) {
    this.#base = base;
    this.#options = options;
    this.#feed = new ChangeFeed(options.database.db);
    this.#outcomes = new Hook("changes read", base.log);
    this.#reading = new SingleFlight(
      () => this.#read(),
      (err) => this.#failed(err),
    );
    this.#polling = new Loop(base.log, "change reader poll", (signal) => this.#poll(signal));
    this.#lifecycle = new Lifecycle(
      () => this.#begin(),
      () => this.#end(),
    );
  }

  /**
   * Every batch that has events or moves the position, and every loss of it, in order. A batch has the events that
   * `interest`, or anybody else here, wants in the moment in which it is handed on.
   */
  onOutcome(fn: (outcome: Batch | Resync) => void, interest: Interest): () => void {
    const wish = { ...interest };
    this.#wishes.add(wish);
    const off = this.#outcomes.on(fn);
    return () => {
      this.#wishes.delete(wish);
      off();
    };
  }

  /** Up to where it has read. Throws before the first start. */
  position(): Position {
    if (!this.#position) throw new Error("the change reader was not started");
    return this.#position;
  }

  stats(): ReaderStats {
    return this.#stats;
  }

  /** Resolves when everything committed before this call has been handed on, or its reading has failed. */
  poke(): Promise<void> {
    return this.#running ? this.#reading.poke() : Promise.resolve();
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  async #begin(): Promise<void> {
    await verifyHistory(this.#options.database.db);
    this.#historyChecked = true;
    this.#position = await this.#feed.head();
    this.#running = true;
    const { listener } = this.#options;
    this.#offs = [
      listener.onConnected(() => {
        this.#historyChecked = false;
        void this.poke();
      }),
      listener.onChanges(({ hurry }) => (hurry ? void this.poke() : this.#linger())),
    ];
    await this.#polling.start();
  }

  async #end(): Promise<void> {
    this.#running = false;
    this.#lingering?.cancel();
    this.#lingering = undefined;
    for (const off of this.#offs) off();
    await this.#polling.stop();
    await this.#reading.idle();
  }

  #linger(): void {
    this.#lingering ??= this.#base.clock.after(LINGER_MS, () => {
      this.#lingering = undefined;
      void this.poke();
    });
  }

  async #poll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#base.clock.sleep(this.#options.listener.fallbackPollMs(), signal);
      if (!signal.aborted) await this.poke();
    }
  }

  async #read(): Promise<void> {
    if (!this.#historyChecked) {
      if (await verifyHistory(this.#options.database.db))
        this.#base.log.warn({}, "the database is not the one of before; clients are asked to resync");
      this.#historyChecked = true;
    }
    let found = 0;
    do found += await this.#step();
    while (this.#running && this.position().page);
    if (this.#failing) this.#base.log.info({}, "change feed is read again");
    this.#failing = false;
    if (found > 0 && this.#running) await this.#base.clock.sleep(found < MANY_CHANGES ? BREATHER_MS : LONG_BREATHER_MS);
  }

  /** Reads on and hands on. Returns how many changes there were. */
  async #step(): Promise<number> {
    const from = this.position();
    if (!this.#isBusyWanted() && !from.page) {
      const step = await this.#feed.pass(from);
      // Whoever came meanwhile has been told of nothing since `from`, and wants to hear of it.
      if (step && !this.#isBusyWanted()) {
        this.#handOn(step);
        return step.changes;
      }
    }
    const { changes } = await this.#feed.read(
      from,
      (subjects) => this.#isWanted(subjects),
      (step) => this.#handOn(step),
    );
    return changes;
  }

  #isBusyWanted(): boolean {
    for (const { busy } of this.#wishes) if (busy()) return true;
    return false;
  }

  #isWanted(subjects: readonly string[]): boolean {
    for (const { wanted } of this.#wishes) if (wanted(subjects)) return true;
    return false;
  }

  #handOn({ outcome, changes, lagMs }: Step): void {
    this.#position = outcome.to;
    const { xmin, xmax } = outcome.to.seen;
    const lost = outcome.kind === "resync";
    this.#stats = {
      lagMs,
      xminAge: Number(xmax - xmin),
      events: this.#stats.events + changes,
      resyncs: this.#stats.resyncs + (lost ? 1 : 0),
    };
    if (lost) this.#base.log.warn({ reason: outcome.reason }, "change feed position lost");
    this.#outcomes.emit(outcome);
  }

  #failed(err: unknown): void {
    if (!this.#failing) this.#base.log.warn({ err }, "change feed not read; trying again");
    this.#failing = true;
  }
}
