import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { returnDispatches, returnMessages } from "./replicas.ts";
import { tellAgents } from "./unansweredOperations.ts";

/** Statements of the sweeps (design section 7). Each is safe when two replicas run it at once, and touches at most `limit` rows. */

/** Claims the sweep's turn: true once per interval, whatever the replicas' clocks say. */
export const claimSweep = async (
  db: Db,
  p: { readonly name: string; readonly intervalMs: number },
): Promise<boolean> => {
  const next = sql`now() + ${p.intervalMs}::float8 * interval '1 millisecond'`;
  const { numAffectedRows } = await sql`
    insert into sweeps as s (name, next_at) values (${p.name}, ${next})
    on conflict (name) do update set next_at = excluded.next_at where s.next_at <= now()`.execute(db);
  return numAffectedRows === 1n;
};

/** Lifecycle intents that nobody took in time: nothing of them runs any more. Returns their ids. */
export const expireDispatches = async (db: Db, limit: number): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`
    with late as (
      select id from broker_dispatch where state = 'pending' and deadline_at <= now()
       order by id limit ${limit} for update skip locked),
    expired as (
      update broker_dispatch d set state = 'expired', updated_at = now(),
          error = coalesce(d.error, 'the runtime broker did not take it in time')
        from late where d.id = late.id returning d.id, d.agent_id, d.op, d.error),
    ${tellAgents(sql`expired`)}
    select id from expired`.execute(db);
  return rows.map((r) => r.id);
};

/**
 * Lifecycle intents that a live socket has had for longer than any operation takes. They fail rather than run again:
 * the socket may still be at it. Returns their ids.
 */
export const failOverdueDispatches = async (
  db: Db,
  p: {
    /** Since it was claimed. */
    readonly overdueSeconds: number;
    readonly limit: number;
  },
): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`
    with overdue as (
      select id from broker_dispatch
       where state = 'in_progress' and deadline_at < now()
         and coalesce(claimed_at, deadline_at) < now() - make_interval(secs => ${p.overdueSeconds}::float8)
       order by id limit ${p.limit} for update skip locked),
    failed as (
      update broker_dispatch d set state = 'failed', error = 'the runtime broker did not answer in time', updated_at = now()
        from overdue where d.id = overdue.id returning d.id, d.agent_id, d.op, d.error),
    ${tellAgents(sql`failed`)}
    select id from failed`.execute(db);
  return rows.map((r) => r.id);
};

export interface TakenBack {
  /** Runtime brokers with work that is pending again. */
  readonly wake: readonly Uuid[];
  /** Dispatches that failed for want of time or attempts. */
  readonly failed: readonly Uuid[];
}

/**
 * Takes back intents and messages whose claim names a socket that has not been the runtime broker's own for
 * `staleSeconds`. Their claimants give them back themselves; this is for what was missed. Looks at up to `limit` runtime
 * brokers.
 */
export const takeBackStaleClaims = (
  db: Db,
  p: { readonly staleSeconds: number; readonly limit: number },
): Promise<TakenBack> =>
  transaction(db, async (tx) => {
    const moved = (claim: RawBuilder<unknown>) => sql`exists (select from runtime_brokers r
      where r.id = ${claim}.runtime_broker_id and (r.connected_hub_id is distinct from ${claim}.claimed_by
        or r.connected_session_id is distinct from ${claim}.claim_session)
        and coalesce(r.disconnected_at, r.connected_at, r.created) < now() - make_interval(secs => ${p.staleSeconds}::float8))`;
    const d = sql.ref("d");
    const m = sql.ref("m");
    const { rows } = await sql<{ id: Uuid }>`
      select r.id from runtime_brokers r where r.id in (
          select d.runtime_broker_id from broker_dispatch d where d.state = 'in_progress' and ${moved(d)}
          union select m.runtime_broker_id from messages m where m.state = 'delivering' and m.claimed_by is not null
            and ${moved(m)})
       order by r.id limit ${p.limit} for no key update`.execute(tx);
    if (rows.length === 0) return { wake: [], failed: [] };
    // Decided again in statements of their own: only now can nobody claim or move what is looked at.
    const ids = sql`any(${rows.map((r) => r.id)}::uuid[])`;
    const dispatches = await returnDispatches(
      tx,
      sql`d.runtime_broker_id = ${ids} and ${moved(d)}`,
      "its socket was lost",
    );
    const messages = await returnMessages(tx, sql`m.runtime_broker_id = ${ids} and ${moved(m)}`, "its socket was lost");
    return {
      wake: [
        ...new Set([...dispatches.filter((r) => r.state === "pending"), ...messages].map((r) => r.runtimeBrokerId)),
      ],
      failed: dispatches.filter((r) => r.state === "failed").map((r) => r.id),
    };
  });

/** Messages that have waited for their agent for too long. Returns their ids. */
export const failUndeliveredMessages = async (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`
    with old as (
      select id from messages where state = 'pending' and created < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
       limit ${p.limit} for update skip locked)
    update messages m set state = 'failed', error = 'not delivered in time' || coalesce(': ' || m.hold_reason, '')
      from old where m.id = old.id returning m.id`.execute(db);
  return rows.map((r) => r.id);
};

/** The activity before the hub's own marks `stalled` and `offline`, so that it can be told and come back. */
const priorActivity = sql`case when a.activity in ('stalled', 'offline') then a.stalled_from_activity else a.activity end`;

/** Running agents of which nothing has been heard for `silentSeconds` (spec/02 2.4). Returns how many are offline now. */
export const markAgentsOffline = (
  db: Db,
  p: { readonly silentSeconds: number; readonly limit: number },
): Promise<number> =>
  affected(
    sql`
    with silent as (
      select id from agents where phase = 'running' and deleted_at is null
        and coalesce(last_seen, running_since, created) < now() - make_interval(secs => ${p.silentSeconds}::float8)
        and coalesce(activity, '') not in ('completed', 'limits_exceeded', 'blocked', 'offline')
       order by id limit ${p.limit} for no key update skip locked)
    update agents a set activity = 'offline', stalled_from_activity = ${priorActivity}, updated = now()
      from silent where a.id = silent.id`,
    db,
  );

/** Running agents that are heard of but have done nothing for `stalledSeconds` (spec/02 2.4). */
export const markAgentsStalled = (
  db: Db,
  p: { readonly stalledSeconds: number; readonly silentSeconds: number; readonly limit: number },
): Promise<number> =>
  affected(
    sql`
    with idle as (
      select id from agents where phase = 'running' and deleted_at is null
        and last_activity_event < now() - make_interval(secs => ${p.stalledSeconds}::float8)
        and last_seen >= now() - make_interval(secs => ${p.silentSeconds}::float8)
        and coalesce(activity, '') not in
          ('completed', 'limits_exceeded', 'blocked', 'stalled', 'offline', 'waiting_for_input')
       order by id limit ${p.limit} for no key update skip locked)
    update agents a set activity = 'stalled', stalled_from_activity = a.activity, updated = now()
      from idle where a.id = idle.id`,
    db,
  );

interface DeletedFor {
  readonly retentionSeconds: number;
  readonly limit: number;
}

/** Agents that were deleted long ago. One with an operation still under way is left for later. */
const longDeleted = (p: DeletedFor) => sql`
  select a.id from agents a
   where a.deleted_at < now() - make_interval(secs => ${p.retentionSeconds}::float8)
     and not exists (select from broker_dispatch d where d.agent_id = a.id and d.state in ('pending', 'in_progress'))
   order by a.deleted_at limit ${p.limit}`;

/** The agents that `purgeDeletedAgents` would remove. */
export const agentsToPurge = async (db: Db, p: DeletedFor): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`${longDeleted(p)}`.execute(db);
  return rows.map((r) => r.id);
};

/** Removes agents that were deleted longer than `retentionSeconds` ago, with what waited for them. */
export const purgeDeletedAgents = (db: Db, p: DeletedFor): Promise<number> =>
  transaction(db, async (tx) => {
    const { rows } = await sql<{ id: Uuid }>`${longDeleted(p)} for update skip locked`.execute(tx);
    if (rows.length === 0) return 0;
    // What waited for them fails with them: a trigger sees to it.
    return affected(sql`delete from agents where id = any(${rows.map((r) => r.id)}::uuid[])`, tx);
  });

/** Idempotency keys whose answers are not kept any longer. */
export const deleteExpiredIdempotencyKeys = (db: Db, limit: number): Promise<number> =>
  affected(
    sql`delete from idempotency_keys where (principal, key) in (
      select principal, key from idempotency_keys where expires_at < now() limit ${limit} for update skip locked)`,
    db,
  );

/**
 * Prunes the change log from its oldest end: of the lowest `limit` ids, those older than `maxAgeSeconds` and those that
 * exceed `maxRows`. The newest transaction pruned is recorded along with it, so that every position before it gets a
 * resync and none a silent gap.
 */
export const pruneChangeLog = async (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly maxRows: number; readonly limit: number },
): Promise<number> => {
  // Ids are drawn in the order of writing, one by one: a range of them is a look-up where rows would have to be counted.
  const { rows } = await sql<{ n: string }>`
    with oldest as materialized (select id, at from change_log order by id limit ${p.limit}),
    last as (select max(id) as id from oldest
      where at < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
        or id <= (select id from change_log order by id desc limit 1) - ${p.maxRows}::bigint),
    gone as (delete from change_log c using last where c.id <= last.id returning c.tx),
    newest as (select max(tx) as tx, count(*) as n from gone),
    told as (update feed_meta set pruned_tx = greatest(pruned_tx, newest.tx) from newest where newest.tx is not null)
    select n from newest`.execute(db);
  return Number(rows[0]?.n ?? 0);
};

/** Dispatches that ended longer than `maxAgeSeconds` ago. */
export const deleteFinishedDispatches = (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<number> =>
  affected(
    sql`delete from broker_dispatch where id in (
      select id from broker_dispatch where state in ('done', 'failed', 'expired')
         and updated_at < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
       limit ${p.limit} for update skip locked)`,
    db,
  );

/** Hops of messages and operations, once nothing was added to them for `maxAgeSeconds`. */
export const deleteOldHops = (db: Db, p: { readonly maxAgeSeconds: number; readonly limit: number }): Promise<number> =>
  affected(
    sql`delete from trace_hops where id in (
      select id from trace_hops where last_at < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
       limit ${p.limit} for update skip locked)`,
    db,
  );

/** Names of replicas that went longer than `maxAgeSeconds` ago. */
export const deleteOldReplicaNames = (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<number> =>
  affected(
    sql`delete from replica_names where instance_id in (
      select instance_id from replica_names where gone_at < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
       limit ${p.limit} for update skip locked)`,
    db,
  );

/** What large messages carried beside their text, once they were delivered longer than `maxAgeSeconds` ago. */
export const trimDeliveredEnvelopes = (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<number> =>
  affected(
    sql`update messages set envelope = '{}', bulky = false where id in (
      select id from messages
       where bulky and state = 'delivered' and dispatched_at < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
       limit ${p.limit} for update skip locked)`,
    db,
  );

/** How many pages the table of messages has now. */
export const messagePages = async (db: Db): Promise<number> => {
  const { rows } = await sql<{ pages: number }>`
    select (pg_relation_size('messages') / current_setting('block_size')::int)::int as pages`.execute(db);
  return rows[0]?.pages ?? 0;
};

/**
 * Deletes messages that came to their end longer than `maxAgeSeconds` ago, as far as they lie on these pages of the table;
 * unread ones to persons are kept twice as long. By place, not by an index of times: that would cost every message of the
 * hot path more than walking past it a few times does.
 */
export const deleteOldMessages = (
  db: Db,
  p: { readonly fromPage: number; readonly pages: number; readonly maxAgeSeconds: number },
): Promise<number> => {
  const place = (page: number) => sql`${`(${page},0)`}::tid`;
  const age = sql`make_interval(secs => ${p.maxAgeSeconds}::float8)`;
  return affected(
    sql`delete from messages where ctid = any(array(
      select ctid from messages where ctid >= ${place(p.fromPage)} and ctid < ${place(p.fromPage + p.pages)}
         and coalesce(dispatched_at, created) < now() - ${age}
         and (state in ('delivered', 'failed') or (state is null and (read or created < now() - 2 * ${age})))))`,
    db,
  );
};

const affected = async (statement: ReturnType<typeof sql>, db: Db): Promise<number> => {
  const { numAffectedRows } = await statement.execute(db);
  return Number(numAffectedRows ?? 0n);
};
