import type { Timer } from "@rootstock/service";
import { chargeBuckets } from "@rootstock/store";
import { RateLimited } from "./rateLimited.ts";
import { Recent } from "./recent.ts";
import { bucketKey, type LimitOptions } from "./sharedLimit.ts";

/** What a replica knows of one principal's or address's budget. */
interface Known {
  readonly whom: string;
  /**
   * When the bucket is full again, by the monotonic clock: as the database said last, and with what was spent here since.
   * What others have spent meanwhile can only make it later.
   */
  fullAt: number;
  /** Spent here, and not told to the database. */
  untold: number;
}

const MOST_KEPT = 20_000;
/** Buckets in one statement. */
const MOST_TOLD = 500;
/** What is told waits so long for more, in milliseconds, so that it is not told before the call itself goes on. */
const GATHER_MS = 2;
/** So long after the last statement the next one begins, in milliseconds: as a rule, and when there is hurry. */
const PAUSE_MS = 100;
const SHORT_PAUSE_MS = 10;
/** There is hurry once this share of what seems to be left is untold. */
const HURRY = 0.01;

/**
 * A limit that all replicas count together and that costs calls nothing: every call counts in the shared bucket, but after
 * it was let through, many in one statement, and no call waits for that. A replica refuses by what the database said last
 * and by what it has itself let through since: never anybody who is within the budget, and, once it has heard that others
 * have used it up, everybody. What was let through too much is owed, and is made up for before the bucket gives again.
 *
 * So over any t seconds n replicas let through at most `burst + t * perSecond + (n - 1) * w`, where w is what one of them
 * lets through until it has been told of the others: at most 1 % of the burst and what comes within 10 ms and the time of two
 * statements. One replica alone is exact. What never reaches the database, because that does not answer, each counts for
 * itself.
 */
export class DeferredLimit {
  readonly #options: LimitOptions;
  readonly #msEach: number;
  readonly #known = new Recent<string, Known>(MOST_KEPT);
  readonly #untold = new Map<string, Known>();
  #telling: Promise<void> | undefined;
  #timer: Timer | undefined;
  /** When the timer goes off, and when the last statement began, by the monotonic clock. */
  #dueAt = 0;
  #begunAt = Number.NEGATIVE_INFINITY;
  #failing = false;

  constructor(options: LimitOptions) {
    this.#options = options;
    this.#msEach = 1_000 / options.rule.perSecond;
  }

  /** Takes one. Throws {@link RateLimited}. */
  spend(whom: string): void {
    const { clock, name, rule, refused } = this.#options;
    const now = clock.elapsed();
    let known = this.#known.get(whom) ?? this.#untold.get(whom);
    if (known === undefined) {
      known = { whom, fullAt: now, untold: 0 };
      this.#known.set(whom, known);
    }
    const missingMs = Math.max(0, known.fullAt - now);
    const waitMs = missingMs - (rule.burst - 1) * this.#msEach;
    // Up to what floating point leaves of a whole number.
    if (waitMs > this.#msEach / 1_000) {
      refused();
      throw new RateLimited(name, rule, waitMs);
    }
    known.fullAt = now + missingMs + this.#msEach;
    known.untold += 1;
    // So many at once that the database does not keep up with: whoever comes again is told of then.
    if (this.#untold.size < MOST_KEPT) this.#untold.set(whom, known);
    const left = rule.burst - missingMs / this.#msEach;
    this.#tellWithin(known.untold >= left * HURRY ? SHORT_PAUSE_MS : PAUSE_MS, now);
  }

  /** Tells what is untold. Resolves when the database has heard, or does not answer. */
  async flush(): Promise<void> {
    while (this.#telling || this.#untold.size > 0) await (this.#telling ?? this.#tell());
  }

  #tellWithin(pauseMs: number, now: number): void {
    const at = Math.max(now + GATHER_MS, this.#begunAt + pauseMs);
    if (this.#timer) {
      if (this.#dueAt <= at) return;
      this.#timer.cancel();
    }
    this.#dueAt = at;
    this.#timer = this.#options.clock.after(at - now, () => {
      this.#timer = undefined;
      if (!this.#telling) void this.#tell();
    });
  }

  /** One statement at a time; what came due meanwhile goes with the next. Never rejects. */
  #tell(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#telling = this.#charge().then(() => {
      this.#telling = undefined;
      if (this.#untold.size > 0 && !this.#timer) void this.#tell();
    });
    return this.#telling;
  }

  async #charge(): Promise<void> {
    const { db, clock, log, name, rule } = this.#options;
    const told: Known[] = [];
    const spent: { readonly key: string; readonly amount: number }[] = [];
    for (const [whom, known] of this.#untold) {
      if (told.length === MOST_TOLD) break;
      this.#untold.delete(whom);
      told.push(known);
      spent.push({ key: bucketKey(name, whom), amount: known.untold });
      known.untold = 0;
    }
    const sentAt = clock.elapsed();
    this.#begunAt = sentAt;
    try {
      const taken = await chargeBuckets(db, { capacity: rule.burst, perSecond: rule.perSecond }, spent);
      for (const [index, known] of told.entries()) {
        const fullInMs = taken[index]?.fullInMs ?? 0;
        // Counted from when it was sent: rather let one through too early than refuse one that is within the budget.
        known.fullAt = sentAt + fullInMs + known.untold * this.#msEach;
        // In use: not among those that are forgotten first.
        this.#known.set(known.whom, known);
      }
      this.#failing = false;
    } catch (err) {
      // Whether it was counted is not known, and it must not be counted twice.
      if (!this.#failing) log.warn({ err, limit: name }, "what was spent is not counted by all replicas");
      this.#failing = true;
    }
  }
}
