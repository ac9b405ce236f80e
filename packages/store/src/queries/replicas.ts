import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { waitsUntil } from "./givenBack.ts";
import { tellAgents } from "./unansweredOperations.ts";

/** The replicas that live, and the burial of those that do not (design section 3). */

export interface NewReplica {
  readonly instanceId: Uuid;
  readonly lockKey: bigint;
  readonly name: string;
  readonly internalUrl: string | null;
  readonly version: string;
  readonly state: "serving" | "draining";
}

/** Makes the replica known. A row of the same instance, left by a start that failed halfway, is taken over. */
export const registerReplica = async (db: Db, r: NewReplica): Promise<void> => {
  await sql`
    insert into hub_replicas (instance_id, lock_key, name, internal_url, version, state)
    values (${r.instanceId}, ${String(r.lockKey)}::bigint, ${r.name}, ${r.internalUrl}, ${r.version}, ${r.state})
    on conflict (instance_id) do update set lock_key = excluded.lock_key, name = excluded.name,
      internal_url = excluded.internal_url, version = excluded.version, state = excluded.state, last_seen = now()
  `.execute(db);
};

/** Renews the lease and writes the state. False when the row is gone: somebody took this replica for dead. */
export const renewLease = async (
  db: Db,
  p: { readonly instanceId: Uuid; readonly state: "serving" | "draining" },
): Promise<boolean> => {
  const result = await db
    .updateTable("hub_replicas")
    .set({ last_seen: sql<Date>`now()`, state: p.state })
    .where("instance_id", "=", p.instanceId)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
};

/** Where a live replica is reached by the others; undefined when it is unknown here. */
export const findReplica = (
  db: Db,
  instanceId: Uuid,
): Promise<{ name: string; internalUrl: string | null; state: "serving" | "draining" } | undefined> =>
  db
    .selectFrom("hub_replicas")
    .select(["name", "internal_url as internalUrl", "state"])
    .where("instance_id", "=", instanceId)
    .executeTakeFirst();

/** The releases of the replicas that are registered, each once. */
export const registeredReleases = async (db: Db): Promise<readonly string[]> => {
  const rows = await db.selectFrom("hub_replicas").select("version").distinct().execute();
  return rows.map((r) => r.version);
};

/** The releases of the replicas that are registered, or were so many seconds ago; each once. */
export const recentReleases = async (db: Db, seconds: number): Promise<readonly string[]> => {
  const { rows } = await sql<{ version: string }>`
    select version from hub_replicas
     union select version from replica_names where gone_at > now() - make_interval(secs => ${seconds}::float8)`.execute(
    db,
  );
  return rows.map((r) => r.version);
};

/** When a replica counts as dead. */
export interface DeathRules {
  /** Seconds without a renewal after which the lease is over, whatever its lock says. */
  readonly leaseSeconds: number;
  /** Seconds without a renewal after which a missing lock counts. */
  readonly unseenSeconds: number;
}

export interface SuspectReplica {
  readonly instanceId: Uuid;
  readonly name: string;
  readonly reason: "lease over" | "lock missing";
}

/**
 * Replicas that look dead now: the lease is over, or nobody holds their lock and they were not seen lately. The lock of
 * a process is gone within a second of its end; the lease also ends one that hangs while its connection stays open.
 */
export const findSuspectReplicas = async (db: Db, rules: DeathRules): Promise<SuspectReplica[]> => {
  const { rows } = await sql<SuspectReplica>`
    with locks as materialized (
      select (l.classid::bigint << 32) | l.objid::bigint as key from pg_locks l
       where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
         and l.database = (select oid from pg_database where datname = current_database()))
    select r.instance_id as "instanceId", r.name,
        case when ${leaseOver(rules)} then 'lease over' else 'lock missing' end as reason
      from hub_replicas r
     where ${leaseOver(rules)} or (${unseen(rules)} and r.lock_key not in (select key from locks))
     order by r.instance_id`.execute(db);
  return rows;
};

const leaseOver = (rules: DeathRules) =>
  sql`r.last_seen < now() - make_interval(secs => ${rules.leaseSeconds}::float8)`;
const unseen = (rules: DeathRules) => sql`r.last_seen < now() - make_interval(secs => ${rules.unseenSeconds}::float8)`;

/** What a dead replica left behind, and who should look at it now. */
export interface Legacy {
  /** Runtime brokers with work that is pending again. */
  readonly wake: readonly Uuid[];
  /** Dispatches that failed for want of time or attempts. */
  readonly failed: readonly Uuid[];
}

/**
 * Buries one replica in one transaction: its runtime brokers are nobody's, what it had claimed is pending again or
 * failed, its row is gone. With `rules`, only if it still has not been seen; the claims it may be making meanwhile wait
 * for the locks taken here, or these locks for them. Undefined when there was nothing to bury.
 */
export const buryReplica = (db: Db, instanceId: Uuid, rules?: DeathRules): Promise<Legacy | undefined> =>
  transaction(db, async (tx) => {
    const dead = await sql`
      select from hub_replicas r where r.instance_id = ${instanceId} and ${rules ? unseen(rules) : sql`true`}
      for update`.execute(tx);
    if (dead.rows.length === 0) return undefined;
    // The runtime brokers' rows first, then intents in id order: as everybody else who needs both.
    await sql`
      with held as materialized (
        select id from runtime_brokers where connected_hub_id = ${instanceId} order by id for no key update)
      update runtime_brokers r set connected_hub_id = null, connected_session_id = null, connected_at = null,
        disconnected_at = now(), updated = now()
      from held where r.id = held.id`.execute(tx);
    const dispatches = await returnDispatches(tx, sql`d.claimed_by = ${instanceId}`, "its replica died");
    const messages = await returnMessages(tx, sql`m.claimed_by = ${instanceId}`, "its replica died");
    await tx.deleteFrom("hub_replicas").where("instance_id", "=", instanceId).execute();
    return {
      wake: [
        ...new Set([...dispatches.filter((d) => d.state === "pending"), ...messages].map((r) => r.runtimeBrokerId)),
      ],
      failed: dispatches.filter((d) => d.state === "failed").map((d) => d.id),
    };
  });

interface ReturnedDispatch {
  readonly id: Uuid;
  readonly state: "pending" | "failed";
  readonly runtimeBrokerId: Uuid;
}

/**
 * Takes back claimed dispatches `d` that satisfy `which`: pending again, or failed when no attempts or no time are
 * left. The caller has locked their runtime brokers' rows.
 */
export const returnDispatches = async (
  db: Db,
  which: ReturnType<typeof sql>,
  reason: string,
): Promise<ReturnedDispatch[]> => {
  const { rows } = await sql<ReturnedDispatch>`
    with taken as materialized (
      select d.id from broker_dispatch d where d.state = 'in_progress' and ${which} order by d.id for update),
    returned as (
      update broker_dispatch d set
        state = case when d.attempts < d.max_attempts and ${waitsUntil} > now() then 'pending' else 'failed' end,
        error = case
          when d.attempts >= d.max_attempts then ${`no attempts left: ${reason}`}
          when ${waitsUntil} <= now() then ${`too late to repeat: ${reason}`} else d.error end,
        hold_reason = ${reason}, claimed_by = null, claim_session = null, deadline_at = ${waitsUntil}, updated_at = now()
      from taken where d.id = taken.id
      returning d.id, d.state, d.runtime_broker_id, d.agent_id, d.op, d.error),
    ${tellAgents(sql`(select * from returned where state = 'failed')`)}
    select id, state, runtime_broker_id as "runtimeBrokerId" from returned`.execute(db);
  return rows;
};

/** Takes back claimed messages `m` that satisfy `which`: pending again. The caller has locked their runtime brokers. */
export const returnMessages = async (
  db: Db,
  which: ReturnType<typeof sql>,
  reason: string,
): Promise<{ readonly id: Uuid; readonly runtimeBrokerId: Uuid }[]> => {
  const { rows } = await sql<{ id: Uuid; runtimeBrokerId: Uuid | null }>`
    with taken as materialized (
      select m.id from messages m where m.state = 'delivering' and ${which} order by m.id for update)
    update messages m set state = 'pending', claimed_by = null, claim_session = null, hold_reason = ${reason}
      from taken where m.id = taken.id
    returning m.id, m.runtime_broker_id as "runtimeBrokerId"`.execute(db);
  return rows.flatMap(({ id, runtimeBrokerId }) => (runtimeBrokerId === null ? [] : [{ id, runtimeBrokerId }]));
};
