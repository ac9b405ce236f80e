import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import { waitsUntil } from "./givenBack.ts";
import { byRuntimeBroker } from "./heldSockets.ts";
import { tellAgentsOf } from "./unansweredOperations.ts";
import { uuidArray } from "./uuidArray.ts";

/** Which replica and which socket hold a runtime broker (design section 4). Every change of affinity is here. */

/** One socket of one runtime broker. */
export interface SocketOwnership {
  readonly runtimeBrokerId: Uuid;
  readonly sessionId: Uuid;
}

export interface ClaimedRuntimeBroker {
  /** A number made of the session's id, for `heldByDatabase`. */
  readonly mark: bigint;
  /** The replica and socket that held it until now, when that socket had not been released. */
  readonly displaced: { readonly hubId: Uuid; readonly sessionId: Uuid } | undefined;
}

interface Before {
  readonly id: Uuid;
  readonly connected_hub_id: Uuid | null;
  readonly connected_session_id: Uuid | null;
  readonly mark: string;
}

/** The sockets as a table `t (id, session)`. */
const sockets = (held: readonly SocketOwnership[]) =>
  sql`unnest(${uuidArray(held.map((h) => h.runtimeBrokerId))}::uuid[],
    ${uuidArray(held.map((h) => h.sessionId))}::uuid[]) as t(id, session)`;

/**
 * The sockets and their rows `r`, locked in the order of ids. A look-up per socket ("offset 0"): as a join it may be planned the other way
 * round, and ten thousand sockets then take seconds.
 */
const lockedRows = (held: readonly SocketOwnership[]) => sql`${sockets([...held].sort(byRuntimeBroker))}
  cross join lateral (select id, connected_hub_id, connected_session_id from runtime_brokers
    where id = t.id offset 0 for no key update) r`;

const markOf = (column: string) => sql`uuid_hash_extended(${sql.ref(column)}, 0)`;

const claim = async (
  db: Db,
  hubId: Uuid,
  held: readonly SocketOwnership[],
  condition: RawBuilder<unknown>,
): Promise<readonly Before[]> => {
  const { rows } = await sql<Before>`
    with before as (
      select r.id, r.connected_hub_id, r.connected_session_id, t.session from ${lockedRows(held)} where ${condition}),
    claimed as (
      update runtime_brokers r set connected_hub_id = ${hubId}, connected_session_id = before.session,
        connected_at = now(), disconnected_at = null, status = 'online', updated = now()
      from before where r.id = before.id),
    beat as (
      insert into runtime_broker_heartbeats (runtime_broker_id, last_heartbeat) select id, now() from before order by id
      on conflict (runtime_broker_id) do update set last_heartbeat = excluded.last_heartbeat)
    select id, connected_hub_id, connected_session_id, ${markOf("session")}::text as mark from before`.execute(db);
  return rows;
};

/**
 * Makes `hubId` and these sessions the owners, whoever was before: the newest socket wins. Affinity, status and heartbeat
 * in one write; each runtime broker is named once. Those that do not exist are missing from the answer. To be followed by
 * `voidOlderClaims` in the same transaction.
 */
export const claimRuntimeBrokers = async (
  db: Db,
  hubId: Uuid,
  held: readonly SocketOwnership[],
): Promise<ReadonlyMap<Uuid, ClaimedRuntimeBroker>> => {
  const before = await claim(db, hubId, held, sql`true`);
  return new Map(
    before.map(({ id, connected_hub_id, connected_session_id, mark }) => [
      id,
      {
        mark: BigInt(mark),
        displaced:
          connected_hub_id && connected_session_id
            ? { hubId: connected_hub_id, sessionId: connected_session_id }
            : undefined,
      },
    ]),
  );
};

/** As `claimRuntimeBrokers`, of one. Undefined when there is no such runtime broker. */
export const claimRuntimeBroker = async (
  db: Db,
  hubId: Uuid,
  held: SocketOwnership,
): Promise<ClaimedRuntimeBroker | undefined> =>
  (await claimRuntimeBrokers(db, hubId, [held])).get(held.runtimeBrokerId);

/** As `claimRuntimeBrokers`, only while nobody holds it: false when somebody does, or when it is gone. */
export const claimRuntimeBrokerIfFree = async (db: Db, hubId: Uuid, held: SocketOwnership): Promise<boolean> =>
  (await claim(db, hubId, [held], sql`r.connected_hub_id is null`)).length > 0;

export interface VoidedClaims {
  /** Intents that are pending again. */
  readonly returned: readonly Uuid[];
  /** Intents that had no attempts left. */
  readonly failed: readonly Uuid[];
  /** How many messages are pending again. */
  readonly messages: number;
}

const DISPLACED = "its runtime broker connected anew before it had answered";

/**
 * Voids what older sessions of these runtime brokers had claimed: pending again, or failed when it has no attempts left,
 * which its agent says.
 * A statement of its own after the claim: only now does it see what an old owner claimed before it lost the row
 * (design section 5). Rows are locked in id order, after the runtime brokers'. To be called in a transaction.
 */
export const voidOlderClaims = async (db: Db, held: readonly SocketOwnership[]): Promise<VoidedClaims> => {
  const { rows } = await sql<{ readonly id: Uuid | null; readonly state: string; readonly n: number }>`
    with t as materialized (select id, session from ${sockets(held)}),
    d as (
      select id from broker_dispatch where state = 'in_progress' and id = any(array(
          select b.id from t cross join lateral (select id from broker_dispatch
            where runtime_broker_id = t.id and state = 'in_progress' and claim_session <> t.session offset 0) b))
        order by id for update),
    m as (
      select id from messages where coalesce(state, '') = 'delivering' and id = any(array(
          select g.id from t cross join lateral (select id from messages
            where runtime_broker_id = t.id and state = 'delivering' and claimed_by is not null
              and claim_session <> t.session offset 0) g))
        order by id for update),
    dispatches as (
      update broker_dispatch b set updated_at = now(), deadline_at = ${waitsUntil}, claimed_by = null, claim_session = null, hold_reason = ${DISPLACED},
        state = case when b.attempts >= b.max_attempts then 'failed' else 'pending' end,
        error = case when b.attempts >= b.max_attempts then 'runtime broker lost its connection on every attempt'
          else b.error end
      from d where b.id = d.id returning b.id, b.state),
    returned as (
      update messages g set state = 'pending', claimed_by = null, claim_session = null, hold_reason = ${DISPLACED}
      from m where g.id = m.id returning g.id)
    select id, state, 1 as n from dispatches
    union all select null, 'message', count(*)::int from returned`.execute(db);
  const ids = (state: string) => rows.flatMap((r) => (r.id && r.state === state ? [r.id] : []));
  const failed = ids("failed");
  // Apart, because it is seldom: thousands come at once, and each would pay for it.
  if (failed.length > 0) await tellAgentsOf(db, failed);
  return {
    returned: ids("pending"),
    failed,
    messages: rows.find((r) => r.state === "message")?.n ?? 0,
  };
};

/**
 * Gives up sockets that have ended, each only where replica and session are still the ones named. Status is left alone:
 * a runtime broker redials within milliseconds. Returns those that were given up.
 */
export const releaseRuntimeBrokers = async (
  db: Db,
  hubId: Uuid,
  held: readonly SocketOwnership[],
): Promise<readonly Uuid[]> => {
  const { rows } = await sql<{ readonly id: Uuid }>`
    with mine as (
      select r.id from ${lockedRows(held)} where r.connected_hub_id = ${hubId} and r.connected_session_id = t.session)
    update runtime_brokers r set connected_hub_id = null, connected_session_id = null, connected_at = null,
      disconnected_at = now(), updated = now()
    from mine where r.id = mine.id returning r.id`.execute(db);
  return rows.map((r) => r.id);
};

/** All that the database names as held by a replica, in two numbers: how many, and their marks in one. */
export interface HeldByDatabase {
  readonly count: number;
  /** The exclusive or of the marks. */
  readonly marks: bigint;
}

/** What the database names as held by `hubId`. Far cheaper than `findMismatches`, and says whether that is needed. */
export const heldByDatabase = async (db: Db, hubId: Uuid): Promise<HeldByDatabase> => {
  const { rows } = await sql<{ readonly count: number; readonly marks: string }>`
    select count(*)::int as count, coalesce(bit_xor(${markOf("connected_session_id")}), 0)::text as marks
      from runtime_brokers where connected_hub_id = ${hubId}`.execute(db);
  const [row] = rows;
  if (!row) throw new Error("an aggregate without a row");
  return { count: row.count, marks: BigInt(row.marks) };
};

/** A held socket that the database does not name: the row is gone, names nobody, or names another session. */
export interface AffinityMismatch extends SocketOwnership {
  readonly found: "gone" | "nobody" | "another";
}

/** Of the sockets held, those that the database does not name as held by `hubId`. One query for all. */
export const findMismatches = async (
  db: Db,
  hubId: Uuid,
  held: readonly SocketOwnership[],
): Promise<readonly AffinityMismatch[]> => {
  const { rows } = await sql<AffinityMismatch>`
    select t.id as "runtimeBrokerId", t.session as "sessionId",
      case when r.id is null then 'gone' when r.connected_hub_id is null then 'nobody' else 'another' end as found
    from ${sockets(held)} left join lateral (
      select id, connected_hub_id, connected_session_id from runtime_brokers where id = t.id offset 0) r on true
    where r.id is null or r.connected_hub_id is distinct from ${hubId}
      or r.connected_session_id is distinct from t.session`.execute(db);
  return rows;
};

/** Sockets that the database names as held by `hubId` and that are none of `held`. */
export const findStraySockets = async (
  db: Db,
  hubId: Uuid,
  held: readonly SocketOwnership[],
): Promise<readonly SocketOwnership[]> => {
  // Told apart here: for each of ten thousand rows the database would go through a list of ten thousand.
  const { rows } = await sql<SocketOwnership>`
    select id as "runtimeBrokerId", connected_session_id as "sessionId" from runtime_brokers
     where connected_hub_id = ${hubId}`.execute(db);
  const known = new Set(held.map((h) => h.sessionId));
  return rows.filter((row) => !known.has(row.sessionId));
};

/**
 * Marks runtime brokers offline whose last socket ended more than `redialGraceMs` ago. One that has sent a heartbeat
 * since lives, and is given `heartbeatGraceMs` (counted from the socket's end as well) to come back. Returns their ids.
 */
export const markSilentRuntimeBrokersOffline = async (
  db: Db,
  grace: { readonly redialGraceMs: number; readonly heartbeatGraceMs: number; readonly limit: number },
): Promise<readonly Uuid[]> => {
  const { rows } = await sql<{ readonly id: Uuid }>`
    with silent as (
      select r.id from runtime_brokers r left join runtime_broker_heartbeats h on h.runtime_broker_id = r.id
      where r.connected_hub_id is null and r.status <> 'offline'
        and (r.disconnected_at is null or r.disconnected_at < now() - ${grace.redialGraceMs} * interval '1 millisecond')
        and not coalesce(h.last_heartbeat >= r.disconnected_at
          and r.disconnected_at > now() - ${grace.heartbeatGraceMs} * interval '1 millisecond', false)
      order by r.id limit ${grace.limit} for no key update of r skip locked)
    update runtime_brokers r set status = 'offline', updated = now()
    from silent where r.id = silent.id and r.connected_hub_id is null returning r.id`.execute(db);
  return rows.map((r) => r.id);
};
