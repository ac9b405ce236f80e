import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, isStatementTimeout, timeLimited } from "@rootstock/store";
import { countedAs, type Principal } from "../auth/index.ts";
import { Turns } from "./turns.ts";

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

/** Who wants to know. */
export interface WhoAsks {
  readonly principal: Principal;
  /** Aborts when they want to know no more. */
  readonly signal: () => AbortSignal;
}

/**
 * Counts of long lists to the last row, for those who ask for one. Such a count takes as long as there are rows, so that
 * few are made at once at a replica, one for each principal, and none takes long. How many wait is not bounded, and
 * therefore none may hold more than its request: rows are read once they are counted.
 */
export class ExactCounts {
  readonly #db: Db;
  readonly #turns: Turns;
  readonly #countMs: number;
  readonly #waitMs: number;

  constructor(options: ExactCountsOptions) {
    this.#db = options.db;
    this.#turns = new Turns(options.clock, options.mostAtOnce ?? MOST_AT_ONCE);
    this.#countMs = options.countMs ?? COUNT_MS;
    this.#waitMs = options.waitMs ?? WAIT_MS;
  }

  /**
   * What `count` says. Throws 422 `unprocessable` when it is not counted in time: the list is too long for that, others
   * are being counted for as long, or whoever asked has gone away.
   */
  async of(asker: WhoAsks, count: (db: Db) => Promise<number>): Promise<number> {
    const whom = countedAs(asker.principal);
    const hasTurn = await this.#turns.take(whom, { waitMs: this.#waitMs, gone: asker.signal });
    if (!hasTurn) throw notCounted();
    try {
      return await timeLimited(this.#db, this.#countMs, count);
    } catch (err) {
      if (!isStatementTimeout(err)) throw err;
      throw notCounted(err);
    } finally {
      this.#turns.leave(whom);
    }
  }
}

const notCounted = (cause?: unknown): HubError =>
  new HubError(
    "unprocessable",
    "totalCount: the list could not be counted in time; narrow it, or ask for totalCount=estimated",
    { details: { field: "totalCount" }, cause },
  );
