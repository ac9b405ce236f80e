import { sql, type Transaction } from "kysely";
import type { Db } from "./database.ts";
import { isRetryable } from "./databaseErrors.ts";
import type { Tables } from "./tables.ts";

const ATTEMPTS = 5;

/**
 * Runs `work` in one transaction and repeats it when another transaction won (40001, 40P01). `work` must not reach
 * beyond the database: it may run more than once. Inside a transaction it joins that one.
 */
export const transaction = async <T>(db: Db, work: (tx: Transaction<Tables>) => Promise<T>): Promise<T> => {
  if (db.isTransaction) return work(db as Transaction<Tables>);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction().execute(work);
    } catch (err) {
      if (attempt >= ATTEMPTS || !isRetryable(err)) throw err;
    }
  }
};

/**
 * Runs statements that only read, each of which the server ends after `ms` milliseconds: what is thrown then is told by
 * `isStatementTimeout`. They take one connection of the pool for as long as they run.
 */
export const timeLimited = <T>(db: Db, ms: number, work: (tx: Transaction<Tables>) => Promise<T>): Promise<T> =>
  transaction(db, async (tx) => {
    await sql`select set_config('statement_timeout', ${String(ms)}, true)`.execute(tx);
    return work(tx);
  });
