import { createHash } from "node:crypto";
import type { Clock, Log } from "@rootstock/service";
import { type Db, takeFromBuckets } from "@rootstock/store";
import { RateLimited } from "./rateLimited.ts";
import { Recent } from "./recent.ts";
import type { LimitName, RateRule } from "./rules.ts";

export interface SharedLimitOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly name: LimitName;
  readonly rule: RateRule;
  /** Called for each refusal. */
  readonly refused: () => void;
}

const MOST_KEPT = 10_000;

/** The key of a bucket: nobody's address or name is kept. */
export const bucketKey = (limit: LimitName, whom: string): string =>
  `${limit} ${createHash("sha256").update(whom).digest("base64url").slice(0, 22)}`;

/**
 * A limit that all replicas count together, exactly: each call that passes is one statement. One that is refused is
 * remembered here until there is something again, so that a flood costs the database nothing.
 */
export class SharedLimit {
  readonly #options: SharedLimitOptions;
  readonly #refusedUntil = new Recent<string, number>(MOST_KEPT);

  constructor(options: SharedLimitOptions) {
    this.#options = options;
  }

  /**
   * Takes one for each of these at once. Throws {@link RateLimited}. When the database does not answer nobody is refused:
   * nothing behind this works without it either.
   */
  async demand(...whom: readonly string[]): Promise<void> {
    const { db, log, clock, name, rule } = this.#options;
    const keys = [...new Set(whom.map((one) => bucketKey(name, one)))];
    const now = clock.elapsed();
    for (const key of keys) this.#refuse((this.#refusedUntil.get(key) ?? 0) - now);
    const bucket = { capacity: rule.burst, perSecond: rule.perSecond };
    const wanted = keys.map((key) => ({ key, amount: 1 }));
    let taken: Awaited<ReturnType<typeof takeFromBuckets>>;
    try {
      taken = await takeFromBuckets(db, bucket, wanted, true);
    } catch (err) {
      log.warn({ err, limit: name }, "limit not asked");
      return;
    }
    for (const [index, { granted, waitMs }] of taken.entries()) {
      const key = keys[index];
      if (granted > 0 || key === undefined) continue;
      this.#refusedUntil.set(key, clock.elapsed() + waitMs);
      this.#refuse(Math.max(1, waitMs));
    }
  }

  #refuse(waitMs: number): void {
    if (waitMs <= 0) return;
    this.#options.refused();
    throw new RateLimited(this.#options.name, this.#options.rule, waitMs);
  }
}
