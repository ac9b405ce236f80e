import { Backoff, type Base, Hook, Lifecycle, Loop, type Service } from "@rootstock/service";
import pg from "pg";
import { CoordinationConnection, sharesServerConnections } from "./coordinationConnection.ts";
import { LOCK_KEYS, type LockName, newReplicaLockKey } from "./locks.ts";
import { leadsThroughPooler } from "./poolerCheck.ts";

export interface CoordinationOptions {
  /** Must not lead through a transaction-pooling proxy: session locks do not survive one. */
  readonly directUrl: string;
  readonly applicationName: string;
  /** Milliseconds after which the lock of a sweep that is never free is looked into; 10,000 by default: the lease. */
  readonly strayAfterMs?: number;
}

/** How often the connection proves that it lives and still holds the replica's lock. */
const LOOK_EVERY_MS = 2_000;
/** Stays below five seconds, the grace within which the reaper spares replicas after a database restart. */
const BACKOFF = { firstMs: 100, maxMs: 4_000 };

/**
 * The one coordination connection of a replica (design sections 3 and 7). While it stands, it holds the replica's
 * session advisory lock, by which the others see that the replica lives, and the locks of the sweeps that run here.
 * It is re-established for ever.
 */
export class Coordination implements Service {
  /** The key of the replica's own lock: unique among replicas, above those of the sweeps. */
  readonly lockKey: bigint;
  readonly #base: Base;
  readonly #options: CoordinationOptions;
  readonly #changes: Hook<boolean>;
  readonly #backoff: Backoff;
  readonly #loop: Loop;
  readonly #lifecycle: Lifecycle;
  readonly #running = new Set<LockName>();
  /** Since when the lock has been found taken, each time that it was asked for. */
  readonly #takenSince = new Map<LockName, number>();
  #connection: CoordinationConnection | undefined;
  #heldSince: number | undefined;
  #pooled = false;

  constructor(base: Base, options: CoordinationOptions) {
    this.lockKey = newReplicaLockKey(base.random);
    this.#base = base;
    this.#options = options;
    this.#changes = new Hook("coordination", base.log);
    this.#backoff = new Backoff(BACKOFF, base.random);
    this.#loop = new Loop(base.log, "coordination", (signal) => this.#run(signal));
    this.#lifecycle = new Lifecycle(
      () => this.#begin(),
      () => this.#end(),
    );
  }

  /** Whether the connection stands and, unless it is pooled, holds the replica's lock. */
  held(): boolean {
    // Lost counts from the moment it is known, not from when the loop has noticed: claims ask in between.
    return this.#heldSince !== undefined && this.#connection?.lost.aborted === false;
  }

  /** Milliseconds for which {@link held} has been true without a break; 0 while it is not. */
  heldForMs(): number {
    return this.#heldSince === undefined ? 0 : this.#base.clock.elapsed() - this.#heldSince;
  }

  /** Emits what {@link held} has become. */
  onChange(fn: (held: boolean) => void): () => void {
    return this.#changes.on(fn);
  }

  /**
   * Whether the connection was found to lead through a transaction pooler: locks then belong to whatever server
   * connection a statement happened to reach, and neither prove nor guard anything.
   */
  pooled(): boolean {
    return this.#pooled;
  }

  /** Throws when the database cannot be reached. */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /**
   * Runs `work` under the advisory lock `name`, or gives undefined without running it: when another replica has the
   * lock, when it is at work here already (a session lock would be granted again), and when the connection is down, too
   * slow, or pooled. The signal aborts when the lock may be lost; `work` must end then.
   */
  async withLock<T>(name: LockName, work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const connection = this.#connection;
    if (!connection || !this.held() || this.#pooled || this.#running.has(name)) return undefined;
    this.#running.add(name);
    try {
      if (!(await connection.tryLock(LOCK_KEYS[name]))) {
        await this.#lookInto(name, connection);
        return undefined;
      }
      this.#takenSince.delete(name);
      try {
        return await work(connection.lost);
      } finally {
        if (!(await connection.unlock(LOCK_KEYS[name]))) this.#setPooled();
      }
    } finally {
      this.#running.delete(name);
    }
  }

  /** A lock that nobody alive holds would stop its sweep for good: it is free by the next turn. */
  async #lookInto(name: LockName, connection: CoordinationConnection): Promise<void> {
    const now = this.#base.clock.elapsed();
    const since = this.#takenSince.get(name) ?? now;
    this.#takenSince.set(name, since);
    if (now - since < (this.#options.strayAfterMs ?? 10_000)) return;
    this.#takenSince.delete(name);
    if (await connection.endStrayHolders(LOCK_KEYS[name]))
      this.#base.log.warn({ lock: name }, "a sweep's lock that no living replica holds was freed");
  }

  async #begin(): Promise<void> {
    await this.#connect();
    await this.#loop.start();
  }

  async #end(): Promise<void> {
    await this.#loop.stop();
    this.#drop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#connection) await this.#watch(this.#connection, signal);
      else await this.#reconnect(signal);
    }
  }

  /** Looks after the connection until it is lost. */
  async #watch(connection: CoordinationConnection, signal: AbortSignal): Promise<void> {
    const ended = AbortSignal.any([signal, connection.lost]);
    while (!ended.aborted) {
      await this.#base.clock.sleep(LOOK_EVERY_MS, ended);
      if (ended.aborted) break;
      const look = await connection.look(this.lockKey);
      if (look === "ours") this.#backoff.reset();
      if (look === "elsewhere") this.#setPooled();
      if (look === "lock lost" && !this.#pooled) connection.destroy();
    }
    if (signal.aborted) return;
    this.#base.log.warn({ err: connection.error }, "coordination connection lost");
    this.#drop();
    await this.#base.clock.sleep(this.#backoff.next(), signal);
  }

  async #reconnect(signal: AbortSignal): Promise<void> {
    try {
      await this.#connect();
    } catch (err) {
      this.#base.log.warn({ err }, "coordination connection refused");
      await this.#base.clock.sleep(this.#backoff.next(), signal);
    }
  }

  /** By what it refuses, and by whose server process answers: a pooler at rest may give one client the same every time. */
  async #leadsToPooler(connection: CoordinationConnection): Promise<boolean> {
    const { directUrl } = this.#options;
    return (await leadsThroughPooler(directUrl)) || sharesServerConnections(connection, directUrl);
  }

  async #connect(): Promise<void> {
    const connection = new CoordinationConnection(
      new pg.Client({
        connectionString: this.#options.directUrl,
        application_name: this.#options.applicationName,
        connectionTimeoutMillis: 4_000,
        query_timeout: 2_000,
        keepAlive: true,
        keepAliveInitialDelayMillis: 5_000,
      }),
    );
    try {
      await connection.open();
      // Once found it stays: the same address leads to the same pooler.
      if (!this.#pooled && (await this.#leadsToPooler(connection))) this.#setPooled();
      if (!this.#pooled) await connection.takeOver(this.lockKey);
    } catch (err) {
      connection.destroy();
      throw err;
    }
    this.#connection = connection;
    this.#heldSince = this.#base.clock.elapsed();
    this.#changes.emit(true);
  }

  #setPooled(): void {
    if (this.#pooled) return;
    this.#pooled = true;
    this.#base.log.warn({}, "the coordination connection is pooled; set DATABASE_DIRECT_URL to a direct one");
  }

  #drop(): void {
    this.#connection?.destroy();
    this.#connection = undefined;
    if (this.#heldSince === undefined) return;
    this.#heldSince = undefined;
    this.#changes.emit(false);
  }
}
