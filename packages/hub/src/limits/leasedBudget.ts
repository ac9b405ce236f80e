import { Batcher, type Clock, type Log } from "@rootstock/service";
import { type Db, type Taken, takeFromBuckets, type Wanted } from "@rootstock/store";
import { RateLimited } from "./rateLimited.ts";
import { Recent } from "./recent.ts";
import type { LimitName, RateRule } from "./rules.ts";
import { bucketKey } from "./sharedLimit.ts";

export interface LeasedBudgetOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly name: LimitName;
  readonly rule: RateRule;
  /** Called for each refusal. */
  readonly refused: () => void;
}

/** What a replica holds of one principal's or address's budget. */
interface Held {
  /** When its own small bucket is full again, by the monotonic clock. */
  freeFullAt: number;
  leased: number;
  /** Spent while a lease was under way. */
  debt: number;
  leasing: boolean;
  refusedUntil: number;
}

const MOST_KEPT = 20_000;
const NOTHING: Taken = { granted: 0, waitMs: 0 };
const BATCH = { windowMs: 2, maxItems: 200, concurrency: 1 };

/**
 * A budget of calls that costs them nothing: a replica gives each principal a little of its own, and beyond that takes
 * slices of the budget that all replicas share, ahead of need and for many principals in one statement. Over any time of t
 * seconds, n replicas let through at most `burst + t * perSecond + n * (free + t * free / 60 + 2 * slice)`, where `free` is
 * 2 % of the burst and a slice a quarter of a second's (20 at least); so 2,000 a second
 * with a burst of 10,000 are 2,010 at three replicas.
 */
export class LeasedBudget {
  readonly #options: LeasedBudgetOptions;
  readonly #held = new Recent<string, Held>(MOST_KEPT);
  readonly #leases: Batcher<Wanted, Taken>;
  /** So much a replica gives by itself at once; as much again in a minute. */
  readonly #free: number;
  readonly #freePauseMs: number;
  readonly #slice: number;

  constructor(options: LeasedBudgetOptions) {
    const { db, clock, rule } = options;
    this.#options = options;
    this.#free = Math.max(1, Math.floor(rule.burst / 50));
    this.#freePauseMs = 60_000 / this.#free;
    this.#slice = Math.min(rule.burst, Math.max(20, Math.ceil(rule.perSecond / 4)));
    const bucket = { capacity: rule.burst, perSecond: rule.perSecond };
    this.#leases = new Batcher(clock, BATCH, async (wanted) => {
      // One that was forgotten while it was asked for may be there twice.
      const unique = new Map(wanted.map((w) => [w.key, w]));
      const keys = [...unique.keys()];
      const taken = await takeFromBuckets(db, bucket, [...unique.values()], false);
      const byKey = new Map(taken.map((t, index) => [keys[index], t]));
      return wanted.map((w) => (unique.get(w.key) === w && byKey.get(w.key)) || NOTHING);
    });
  }

  /** Takes one. Throws {@link RateLimited}. */
  spend(whom: string): void {
    const now = this.#options.clock.elapsed();
    let held = this.#held.get(whom);
    if (held === undefined) {
      held = { freeFullAt: 0, leased: 0, debt: 0, leasing: false, refusedUntil: 0 };
      this.#held.set(whom, held);
    }
    const freeFrom = Math.max(held.freeFullAt, now);
    if (freeFrom - now <= (this.#free - 1) * this.#freePauseMs) {
      held.freeFullAt = freeFrom + this.#freePauseMs;
      return;
    }
    if (held.leased > 0) {
      held.leased -= 1;
      if (held.leased * 2 < this.#slice) this.#lease(whom, held);
      return;
    }
    if (held.refusedUntil > now) this.#refuse(held.refusedUntil - now);
    this.#lease(whom, held);
    // Nobody waits for the lease: what is spent meanwhile comes off it.
    if (held.debt >= this.#slice) this.#refuse(1);
    held.debt += 1;
  }

  /** Resolves when no lease is under way. */
  idle(): Promise<void> {
    return this.#leases.idle();
  }

  #lease(whom: string, held: Held): void {
    const { clock, log, name } = this.#options;
    if (held.leasing || held.refusedUntil > clock.elapsed()) return;
    held.leasing = true;
    // In use: not among those that are forgotten first.
    this.#held.set(whom, held);
    const amount = this.#slice + held.debt;
    this.#leases.add({ key: bucketKey(name, whom), amount }).then(
      ({ granted, waitMs }) => {
        held.leasing = false;
        const left = granted - held.debt;
        held.debt = Math.max(0, -left);
        held.leased += Math.max(0, left);
        if (granted < amount) held.refusedUntil = clock.elapsed() + Math.max(waitMs, 50);
      },
      (err: unknown) => {
        held.leasing = false;
        // Without the database nothing behind this works; what needs none of it is not refused for that.
        held.debt = 0;
        log.warn({ err, limit: name }, "no slice of a budget");
      },
    );
  }

  #refuse(waitMs: number): never {
    this.#options.refused();
    throw new RateLimited(this.#options.name, this.#options.rule, waitMs);
  }
}
