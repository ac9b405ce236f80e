import { type Base, Loop, type Service } from "@rootstock/service";
import { type Coordination, claimSweep, type Database, type LockName } from "@rootstock/store";

/** Periodic work that one replica does at a time. */
export interface Sweep {
  /** Names its advisory lock and its row of due times. */
  readonly name: LockName;
  readonly intervalMs: number;
  /**
   * Does what is due, in chunks, and returns how many things it changed. Safe when two replicas do it at once; ends soon
   * after `signal` aborts.
   */
  readonly runOnce: (signal: AbortSignal) => Promise<number>;
}

export interface SweeperOptions {
  readonly database: Database;
  readonly coordination: Coordination;
  readonly sweeps: readonly Sweep[];
}

export type Tick = "ran" | "failed" | "not due" | "busy" | "unguarded";

/** Ticks of the replicas spread over this share of the interval to either side. */
const JITTER = 0.1;

/**
 * Runs the sweeps (design section 7): each tick claims the sweep's turn in the database, once per interval for all
 * replicas, and runs under its advisory lock, never two at once. Without the guard the tick is skipped. Behind a pooler,
 * where locks guard nothing, the turn alone decides.
 */
export class Sweeper implements Service {
  readonly #base: Base;
  readonly #options: SweeperOptions;
  readonly #loops: readonly Loop[];
  readonly #running = new Set<LockName>();

  constructor(base: Base, options: SweeperOptions) {
    this.#base = base;
    this.#options = options;
    this.#loops = options.sweeps.map(
      (sweep) => new Loop(base.log, `sweep ${sweep.name}`, (signal) => this.#repeat(sweep, signal)),
    );
  }

  async start(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.start()));
  }

  /** Resolves when no sweep runs here any more. */
  async stop(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }

  /** One tick of one sweep. Never rejects. */
  async tick(sweep: Sweep, signal: AbortSignal): Promise<Tick> {
    const { coordination, database } = this.#options;
    try {
      // Before the turn is taken: a replica that cannot run must not use it up.
      if (!coordination.held()) return "unguarded";
      if (!(await database.background(() => claimSweep(database.db, sweep)))) return "not due";
      const changed = coordination.pooled()
        ? await this.#alone(sweep, signal)
        : await coordination.withLock(sweep.name, (lost) => sweep.runOnce(AbortSignal.any([lost, signal])));
      if (changed === undefined) return "busy";
      if (changed > 0) this.#base.log.info({ sweep: sweep.name, changed }, "swept");
      return "ran";
    } catch (err) {
      if (!signal.aborted) this.#base.log.warn({ err, sweep: sweep.name }, "sweep failed");
      return "failed";
    }
  }

  async #alone(sweep: Sweep, signal: AbortSignal): Promise<number | undefined> {
    if (this.#running.has(sweep.name)) return undefined;
    this.#running.add(sweep.name);
    try {
      return await sweep.runOnce(signal);
    } finally {
      this.#running.delete(sweep.name);
    }
  }

  async #repeat(sweep: Sweep, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#base;
    await clock.sleep(Math.min(sweep.intervalMs, 5_000) * random.fraction(), signal);
    while (!signal.aborted) {
      await this.tick(sweep, signal);
      await clock.sleep(sweep.intervalMs * (1 - JITTER + 2 * JITTER * random.fraction()), signal);
    }
  }
}
