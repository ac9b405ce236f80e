import { HubError } from "@rootstock/protocol";
import type { Clock, Timer } from "@rootstock/service";
import { type Db, isStatementTimeout, timeLimited } from "@rootstock/store";
import { countedAs, type Principal } from "../auth/index.ts";

export interface ExactCountsOptions {
  readonly db: Db;
  readonly clock: Clock;
  /** So many at once; the others wait. */
  readonly mostAtOnce?: number;
  /** So many wait at most, and so many of one principal. */
  readonly mostWaiting?: number;
  readonly mostWaitingEach?: number;
  /** How long one may take, in milliseconds. */
  readonly countMs?: number;
  /** How long one waits for its turn, in milliseconds. */
  readonly waitMs?: number;
}

/** A few connections of the pool, so that whoever counts keeps nobody from anything else. */
const MOST_AT_ONCE = 2;
/** Whoever waits has read a page of up to a thousand rows, and keeps it: without a bound one user fills the memory. */
const MOST_WAITING = 256;
const MOST_WAITING_EACH = 16;
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
  readonly #mostWaiting: number;
  readonly #mostWaitingEach: number;
  readonly #countMs: number;
  readonly #waitMs: number;
  readonly #counting = new Set<string>();
  readonly #waiting = new Set<Waiting>();

  constructor(options: ExactCountsOptions) {
    this.#db = options.db;
    this.#clock = options.clock;
    this.#mostAtOnce = options.mostAtOnce ?? MOST_AT_ONCE;
    this.#mostWaiting = options.mostWaiting ?? MOST_WAITING;
    this.#mostWaitingEach = options.mostWaitingEach ?? MOST_WAITING_EACH;
    this.#countMs = options.countMs ?? COUNT_MS;
    this.#waitMs = options.waitMs ?? WAIT_MS;
  }

  /**
   * What `count` says. Throws 422 `unprocessable` when it is not counted in time: the list is too long for that, or too many
   * others are being counted or wait. How many wait at a replica is bounded for its memory's sake; no budget of anybody's.
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

  #mayWait(whom: string): boolean {
    if (this.#waiting.size >= this.#mostWaiting) return false;
    let own = 0;
    for (const waiting of this.#waiting) if (waiting.whom === whom) own += 1;
    return own < this.#mostWaitingEach;
  }

  #turn(whom: string): Promise<void> {
    if (this.#mayStart(whom)) {
      this.#counting.add(whom);
      return Promise.resolve();
    }
    if (!this.#mayWait(whom)) return Promise.reject(notCounted());
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
