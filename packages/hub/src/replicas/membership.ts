import type { Uuid } from "@rootstock/protocol";
import { type Base, Hook, Lifecycle, Loop, type Service, SingleFlight } from "@rootstock/service";
import {
  buryReplica,
  type Coordination,
  type Database,
  type Legacy,
  registerReplica,
  renewLease,
} from "@rootstock/store";

export interface MembershipOptions {
  readonly database: Database;
  readonly coordination: Coordination;
  /** Shown to operators; need not be unique. */
  readonly name: string;
  /** Where other replicas reach this one; null when they cannot. */
  readonly internalUrl: string | null;
  readonly version: string;
  /** Milliseconds between renewals of the lease; 2,000 by default. */
  readonly renewEveryMs?: number;
  /** Milliseconds without a renewal after which this replica stops claiming; 8,000 by default. */
  readonly leaseMs?: number;
  /** Milliseconds without coordination, the database answering, after which it gives its sockets away; 5,000 by default. */
  readonly suspendAfterMs?: number;
  /** Milliseconds without any answer of the database after which it gives its sockets away; 60,000 by default. */
  readonly isolatedAfterMs?: number;
}

/**
 * A replica's membership (design section 3, "Replica liveness"). Start it after {@link Coordination}, whose lock stands
 * for the row written here. Sockets and claims rest on three facts: the row exists, the lease is fresh, and the
 * coordination connection is held.
 */
export class Membership implements Service {
  /** Made at boot, never configured, never reused. */
  readonly instanceId: Uuid;
  readonly #base: Base;
  readonly #options: MembershipOptions;
  readonly #suspended: Hook;
  readonly #reregistered: Hook;
  readonly #buried: Hook<Legacy>;
  readonly #loop: Loop;
  readonly #lifecycle: Lifecycle;
  readonly #renewing: SingleFlight;
  #running = false;
  #draining = false;
  #registered = false;
  /** When the last successful renewal began; elapsed milliseconds. */
  #renewedAt = 0;
  /** Since when renewals have succeeded without a long break; elapsed milliseconds. */
  #answeringSince = 0;
  #coordinationLostAt: number | undefined;
  #suspendedNow = false;
  #off: (() => void) | undefined;

  constructor(base: Base, options: MembershipOptions) {
    this.instanceId = base.random.uuid();
    this.#base = base;
    this.#options = options;
    this.#suspended = new Hook("suspended", base.log);
    this.#reregistered = new Hook("reregistered", base.log);
    this.#buried = new Hook("left", base.log);
    this.#loop = new Loop(base.log, "lease", (signal) => this.#run(signal));
    this.#renewing = new SingleFlight(
      () => this.#renew(),
      (err) => base.log.warn({ err }, "lease not renewed"),
    );
    this.#lifecycle = new Lifecycle(
      () => this.#begin(),
      () => this.#end(),
    );
  }

  /**
   * Whether this replica may claim work and sockets. A process that was stopped for longer than its lease gets false
   * when it wakes, before anything else can run: the lease is measured by its own clock from before each renewal.
   */
  mayClaim(): boolean {
    return (
      this.#registered &&
      this.#options.coordination.held() &&
      this.#base.clock.elapsed() - this.#renewedAt < (this.#options.leaseMs ?? 8_000)
    );
  }

  /** Milliseconds for which the lease has been renewed without a long break; 0 while it is not. */
  renewedForMs(): number {
    return this.#databaseAnswers() ? this.#base.clock.elapsed() - this.#answeringSince : 0;
  }

  draining(): boolean {
    return this.#draining;
  }

  /** This replica should close its runtime brokers' sockets, so that they land where work can be claimed. */
  onSuspended(fn: () => void): () => void {
    return this.#suspended.on(fn);
  }

  /** Its row was gone and is there again: the sockets it holds are nobody's until it claims them again. */
  onReregistered(fn: () => void): () => void {
    return this.#reregistered.on(fn);
  }

  /** What it had claimed was given back at `stop`; to be signalled. */
  onLeft(fn: (legacy: Legacy) => void): () => void {
    return this.#buried.on(fn);
  }

  /** Throws when the row cannot be written. */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Leaves the others nothing to find out: what is still claimed goes back, and the row goes. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Tells the others that this replica takes no new sockets. Written at once if possible, else with the next renewal. */
  async drain(): Promise<void> {
    this.#draining = true;
    if (this.#running) await this.#renewing.poke();
  }

  async #begin(): Promise<void> {
    await this.#register();
    this.#running = true;
    const { coordination } = this.#options;
    this.#noteCoordination(coordination.held());
    this.#off = coordination.onChange((held) => this.#noteCoordination(held));
    await this.#loop.start();
  }

  async #end(): Promise<void> {
    this.#running = false;
    await this.#loop.stop();
    // A renewal under way could write the row again after it was removed.
    await this.#renewing.idle();
    this.#off?.();
    this.#registered = false;
    try {
      const legacy = await buryReplica(this.#options.database.db, this.instanceId);
      if (legacy) this.#buried.emit(legacy);
    } catch (err) {
      this.#base.log.warn({ err }, "registration of this replica not removed; another replica will");
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const every = this.#options.renewEveryMs ?? 2_000;
    while (!signal.aborted) {
      // Behind a pooler there is no lock to prove that this replica lives: being seen often has to do.
      await this.#base.clock.sleep(this.#options.coordination.pooled() ? every / 4 : every, signal);
      if (signal.aborted) return;
      await this.#renewing.poke();
      this.#judge();
    }
  }

  async #renew(): Promise<void> {
    if (!this.#running) return;
    const began = this.#base.clock.elapsed();
    if (await renewLease(this.#options.database.db, { instanceId: this.instanceId, state: this.#state() })) {
      this.#renewed(began);
      return;
    }
    this.#registered = false;
    this.#base.log.warn({}, "this replica was taken for dead; registering again");
    await this.#register();
    this.#reregistered.emit();
  }

  async #register(): Promise<void> {
    const began = this.#base.clock.elapsed();
    const { coordination, database, name, internalUrl, version } = this.#options;
    await registerReplica(database.db, {
      instanceId: this.instanceId,
      lockKey: coordination.lockKey,
      name,
      internalUrl,
      version,
      state: this.#state(),
    });
    this.#renewed(began);
    this.#registered = true;
  }

  #renewed(began: number): void {
    if (!this.#databaseAnswers()) this.#answeringSince = this.#base.clock.elapsed();
    this.#renewedAt = began;
  }

  #databaseAnswers(): boolean {
    return this.#base.clock.elapsed() - this.#renewedAt < 2 * (this.#options.renewEveryMs ?? 2_000);
  }

  #noteCoordination(held: boolean): void {
    this.#coordinationLostAt = held ? undefined : this.#base.clock.elapsed();
    this.#suspendedNow = false;
  }

  /**
   * Sockets stay through a restart of the database, where no other replica could do better. They go when the database has
   * answered for a while and only coordination is missing, or when this replica alone may have been cut off for long.
   */
  #judge(): void {
    if (this.#coordinationLostAt === undefined || this.#suspendedNow) return;
    const now = this.#base.clock.elapsed();
    const { suspendAfterMs = 5_000, isolatedAfterMs = 60_000 } = this.#options;
    const lostFor = now - this.#coordinationLostAt;
    const missedFor = Math.min(lostFor, now - this.#answeringSince);
    if (this.#databaseAnswers() ? missedFor < suspendAfterMs : lostFor < isolatedAfterMs) return;
    this.#suspendedNow = true;
    this.#base.log.warn({ lostForMs: Math.round(lostFor) }, "coordination lost for too long");
    this.#suspended.emit();
  }

  #state(): "serving" | "draining" {
    return this.#draining ? "draining" : "serving";
  }
}
