import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** Streams that are held open, counted over all replicas. A replica that is gone holds none. */

/** What a replica says of one who has streams there. */
export interface HeldStreams {
  readonly whom: string;
  /** So many are open at the replica. */
  readonly kept: number;
  /** And so many more are wanted. */
  readonly more: number;
}

export interface StreamBound {
  readonly instanceId: Uuid;
  /** So many may be open at all replicas together. */
  readonly most: number;
  /** Leaves out what replicas hold that nobody has called dead yet, and that have lost the lock by which they live. */
  readonly withoutDying?: boolean;
}

/** The locks that replicas hold while they live. Where this one's own is missing, as behind a pooler, they say nothing. */
const dying = (instanceId: Uuid) => sql`(
  with locks as materialized (
    select (l.classid::bigint << 32) | l.objid::bigint as key from pg_locks l
     where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
       and l.database = (select oid from pg_database where datname = current_database()))
  select r.instance_id::text from hub_replicas r
   where r.lock_key not in (select key from locks)
     and exists (select from hub_replicas own where own.instance_id = ${instanceId} and own.lock_key in (select key from locks)))`;

/**
 * Writes down what a replica holds, each named once, and gives it as many more as the bound leaves: answers how many, in
 * the order of `holdings`. However many replicas do it at once, the bound is kept. What is open stays counted, even above it.
 */
export const holdStreams = async (
  db: Db,
  { instanceId, most, withoutDying = false }: StreamBound,
  holdings: readonly HeldStreams[],
): Promise<readonly number[]> => {
  // In the order of keys: two replicas with the same ones must not wait for each other.
  const sorted = [...holdings].sort((a, b) => (a.whom < b.whom ? -1 : 1));
  // Only what the replicas that are there hold elsewhere; `kept` and `granted` of `excluded` are what is asked for.
  const elsewhere = sql`from jsonb_each(o.held) h (replica, streams)
    where h.replica <> ${instanceId} and h.replica in (select instance_id::text from hub_replicas)`;
  const granted = sql`least(excluded.granted, greatest(0, ${most}::int - excluded.kept
    - (select coalesce(sum(h.streams::int), 0)::int ${elsewhere}
         ${withoutDying ? sql`and h.replica not in ${dying(instanceId)}` : sql``})))`;
  const { rows } = await sql<{ whom: string; granted: number }>`
    insert into open_streams as o (whom, kept, granted, held)
    select w.whom, w.kept, g.granted, jsonb_build_object(${instanceId}::text, w.kept + g.granted)
      from unnest(${sorted.map((h) => h.whom)}::text[], ${sorted.map((h) => h.kept)}::int[], ${sorted.map((h) => h.more)}::int[])
        as w (whom, kept, more)
      cross join lateral (select least(w.more, greatest(0, ${most}::int - w.kept))) as g (granted)
    on conflict (whom) do update set kept = excluded.kept, granted = ${granted},
      held = (select coalesce(jsonb_object_agg(h.replica, h.streams), '{}') ${elsewhere})
        || jsonb_build_object(${instanceId}::text, excluded.kept + ${granted})
    returning whom, granted`.execute(db);
  const byWhom = new Map(rows.map((row) => [row.whom, row.granted]));
  return holdings.map(({ whom }) => byWhom.get(whom) ?? 0);
};

/** Forgets those who hold nothing at any replica that is there. At most `limit`. */
export const deleteEndedStreams = async (db: Db, limit: number): Promise<number> => {
  const { numAffectedRows } = await sql`
    delete from open_streams where whom in (
      select o.whom from open_streams o
       where not exists (select from jsonb_each(o.held) h (replica, streams)
               where h.streams <> '0' and h.replica in (select instance_id::text from hub_replicas))
       limit ${limit} for update skip locked)`.execute(db);
  return Number(numAffectedRows ?? 0n);
};
