import { HubError } from "@rootstock/protocol";
import type { Clock, Timer } from "@rootstock/service";
import { type Db, isStatementTimeout, timeLimited } from "@rootstock/store";
import { countedAs, type Principal } from "../auth/index.ts";

export interface ExactCountsOptions {
  readonly db: Db;
  readonly clock: Clock;
  /** So many at once; the others wait. */
  readonly mostAtOnce?: number;
  /** How long one may take, in milliseconds. */
  readonly countMs?: number;
  /** How long one waits for its turn, in milliseconds. */
  readonly waitMs?: number;
}

/** A few connections of the pool, so that whoever counts keeps nobody from anything else. */
const MOST_AT_ONCE = 2;
const COUNT_MS = 5_000;
const WAIT_MS = 5_000;

interface Waiting {
  readonly whom: string;
  readonly start: () => void;
}

/**
 * Counts of long lists to the last row, for those who ask for one. Such a count takes as long as there are rows, so that
 * few are made at once at a replica, one for each principal, and none takes long.
 */
export class ExactCounts {
  readonly #db: Db;
  readonly #clock: Clock;
  readonly #mostAtOnce: number;
  readonly #countMs: number;
  readonly #waitMs: number;
  readonly #counting = new Set<string>();
  readonly #waiting = new Set<Waiting>();

  constructor({ db, clock, mostAtOnce, countMs, waitMs }: ExactCountsOptions) {
    this.#db = db;
    this.#clock = clock;
    this.#mostAtOnce = mostAtOnce ?? MOST_AT_ONCE;
    this.#countMs = countMs ?? COUNT_MS;
    this.#waitMs = waitMs ?? WAIT_MS;
  }

  /**
   * What `count` says. Throws 422 `unprocessable` when it is not counted in time: the list is too long for that, or too many
   * others are being counted. Nobody has a number of counts of their own at a replica: that is what the shared budgets are for.
   */
  async of(principal: Principal, count: (db: Db) => Promise<number>): Promise<number> {
    const whom = countedAs(principal);
    await this.#turn(whom);
    try {
      return await timeLimited(this.#db, this.#countMs, count);
    } catch (err) {
      if (!isStatementTimeout(err)) throw err;
      throw notCounted(err);
    } finally {
      this.#counting.delete(whom);
      this.#startNext();
    }
  }

  #mayStart(whom: string): boolean {
    return this.#counting.size < this.#mostAtOnce && !this.#counting.has(whom);
  }

  #turn(whom: string): Promise<void> {
    if (this.#mayStart(whom)) {
      this.#counting.add(whom);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined;
      const waiting: Waiting = {
        whom,
        start: () => {
          timer?.cancel();
          resolve();
        },
      };
      this.#waiting.add(waiting);
      timer = this.#clock.after(this.#waitMs, () => {
        this.#waiting.delete(waiting);
        reject(notCounted());
      });
    });
  }

  /** Whoever has waited longest among those who do not count already: nobody's many calls keep others out. */
  #startNext(): void {
    for (const waiting of this.#waiting) {
      if (this.#counting.size >= this.#mostAtOnce) return;
      if (!this.#mayStart(waiting.whom)) continue;
      this.#waiting.delete(waiting);
      this.#counting.add(waiting.whom);
      waiting.start();
    }
  }
}

const notCounted = (cause?: unknown): HubError =>
  new HubError(
    "unprocessable",
    "totalCount: the list could not be counted in time; narrow it, or ask for totalCount=estimated",
    { details: { field: "totalCount" }, cause },
  );
