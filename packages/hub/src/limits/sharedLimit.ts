import { createHash } from "node:crypto";
import { Batcher, type Clock, type Log } from "@rootstock/service";
import { type Db, type Taken, takeFromBuckets } from "@rootstock/store";
import { RateLimited } from "./rateLimited.ts";
import { Recent } from "./recent.ts";
import type { LimitName, RateRule } from "./rules.ts";

export interface LimitOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly name: LimitName;
  readonly rule: RateRule;
  /** Called for each refusal. */
  readonly refused: () => void;
}

const MOST_KEPT = 20_000;
/** One statement at a time, in which everybody goes who came while the last was under way. */
const BATCH = { windowMs: 0, maxItems: 500, concurrency: 1 };
/** So long, in milliseconds, a call waits for the database to say whether it may go on. */
const WAITS_MS = 5_000;

/** The key of a bucket: nobody's address or name is kept. */
export const bucketKey = (limit: LimitName, whom: string): string =>
  `${limit} ${createHash("sha256").update(whom).digest("base64url").slice(0, 22)}`;

/**
 * A limit that all replicas count together, exactly: each call waits for the database to say that there is one left for it,
 * and many that come at once ask in one statement. One that is refused is remembered here until there is something again, so
 * that a flood costs the database nothing.
 */
export class SharedLimit {
  readonly #options: LimitOptions;
  readonly #refusedUntil = new Recent<string, number>(MOST_KEPT);
  /** After how many milliseconds there is one; 0: it was given. */
  readonly #asked: Batcher<string, number>;

  constructor(options: LimitOptions) {
    this.#options = options;
    this.#asked = new Batcher(options.clock, BATCH, (keys) => this.#ask(keys));
  }

  /**
   * Takes one. Throws {@link RateLimited}. When the database does not answer, or not within five seconds, nobody is refused:
   * what is behind this works without it no better.
   */
  async demand(whom: string): Promise<void> {
    const { clock, name } = this.#options;
    const key = bucketKey(name, whom);
    this.#refuse((this.#refusedUntil.get(key) ?? 0) - clock.elapsed());
    const waitMs = await this.#answer(key);
    if (waitMs <= 0) return;
    this.#refusedUntil.set(key, clock.elapsed() + waitMs);
    this.#refuse(waitMs);
  }

  /** Resolves when nothing is asked of the database any more. */
  idle(): Promise<void> {
    return this.#asked.idle();
  }

  async #answer(key: string): Promise<number> {
    const { clock, log, name } = this.#options;
    const answered = new AbortController();
    const tooLong = async (): Promise<number> => {
      await clock.sleep(WAITS_MS, answered.signal);
      if (!answered.signal.aborted) log.warn({ limit: name }, "limit asked in vain");
      return 0;
    };
    try {
      return await Promise.race([this.#asked.add(key), tooLong()]);
    } catch (err) {
      log.warn({ err, limit: name }, "limit not asked");
      return 0;
    } finally {
      answered.abort();
    }
  }

  async #ask(keys: readonly string[]): Promise<readonly number[]> {
    const { db, rule } = this.#options;
    const wanted = new Map<string, number>();
    for (const key of keys) wanted.set(key, (wanted.get(key) ?? 0) + 1);
    const bucket = { capacity: rule.burst, perSecond: rule.perSecond };
    const taken = await takeFromBuckets(
      db,
      bucket,
      [...wanted].map(([key, amount]) => ({ key, amount })),
    );
    const left = new Map([...wanted.keys()].map((key, index) => [key, leftOf(taken[index])]));
    // Whoever came first is given first.
    return keys.map((key) => {
      const one = left.get(key);
      if (!one || one.granted < 1) return Math.max(1, one?.waitMs ?? 1);
      one.granted -= 1;
      return 0;
    });
  }

  #refuse(waitMs: number): void {
    if (waitMs <= 0) return;
    this.#options.refused();
    throw new RateLimited(this.#options.name, this.#options.rule, waitMs);
  }
}

const leftOf = (taken: Taken | undefined) => ({ granted: taken?.granted ?? 0, waitMs: taken?.waitMs ?? 1 });
