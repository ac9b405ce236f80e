import { sql } from "kysely";
import type { Db } from "../database.ts";

/** Budgets that all replicas share, as buckets that fill by themselves (spec/03 section 8). The database's clock counts. */

export interface Bucket {
  /** So much is there at most, and at first. */
  readonly capacity: number;
  readonly perSecond: number;
}

export interface Wanted {
  readonly key: string;
  readonly amount: number;
}

export interface Taken {
  readonly granted: number;
  /** After so many milliseconds there is one again; 0 when there is one now. */
  readonly waitMs: number;
  /** After so many milliseconds it is full, if nobody takes anything; not rounded. */
  readonly fullInMs: number;
}

/**
 * Takes what is wanted from buckets of one kind, each named once, in one statement: as much as is there. Answers in the
 * order of `wanted`. However many do it at once, nobody is given what another one has got.
 */
export const takeFromBuckets = (db: Db, bucket: Bucket, wanted: readonly Wanted[]): Promise<readonly Taken[]> =>
  take(db, bucket, wanted, false);

/**
 * The same for what is spent already: all of it is taken. A bucket that had less is empty until it has made up for what it
 * owes.
 */
export const chargeBuckets = (db: Db, bucket: Bucket, spent: readonly Wanted[]): Promise<readonly Taken[]> =>
  take(db, bucket, spent, true);

const take = async (
  db: Db,
  bucket: Bucket,
  wanted: readonly Wanted[],
  whatever: boolean,
): Promise<readonly Taken[]> => {
  const { capacity, perSecond } = bucket;
  // In the order of keys: two replicas with the same ones must not wait for each other.
  const sorted = [...wanted].sort((a, b) => (a.key < b.key ? -1 : 1));
  const first = sql`case when ${whatever}::boolean then w.amount else least(w.amount, ${capacity}::float8) end`;
  const left = sql`${capacity}::float8 - extract(epoch from greatest(b.full_at, now()) - now()) * ${perSecond}::float8`;
  // Up to what floating point leaves of a whole number.
  const grant = sql`case when ${whatever}::boolean then excluded.granted
    else least(excluded.granted, greatest(0, floor(${left} + 1e-6))) end`;
  const { rows } = await sql<{ key: string; granted: number; debt: number }>`
    insert into rate_buckets as b (key, granted, full_at)
    select w.key, ${first}, now() + ${first} / ${perSecond}::float8 * interval '1 second'
      from unnest(${sorted.map((w) => w.key)}::text[], ${sorted.map((w) => w.amount)}::float8[]) as w (key, amount)
    on conflict (key) do update set granted = ${grant},
      full_at = greatest(b.full_at, now()) + (${grant}) / ${perSecond}::float8 * interval '1 second'
    returning key, granted, extract(epoch from full_at - now())::float8 as debt`.execute(db);
  const byKey = new Map(rows.map((row) => [row.key, row]));
  return wanted.map(({ key }) => {
    const row = byKey.get(key);
    if (!row) throw new Error("a bucket has not answered");
    return {
      granted: row.granted,
      waitMs: Math.max(0, Math.ceil((row.debt - (capacity - 1) / perSecond) * 1_000)),
      fullInMs: Math.max(0, row.debt * 1_000),
    };
  });
};

/** Forgets buckets that have been full for a minute: as good as new. At most `limit`. */
export const deleteFullBuckets = async (db: Db, limit: number): Promise<number> => {
  const { numAffectedRows } = await sql`
    delete from rate_buckets where ctid = any(array(
      select ctid from rate_buckets where full_at < now() - interval '1 minute' limit ${limit} for update skip locked))`.execute(
    db,
  );
  return Number(numAffectedRows ?? 0n);
};
