import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import type { RuntimeBrokerStatus } from "../tables.ts";
import { uuidArray } from "./uuidArray.ts";

/** What a heartbeat says of the runtime broker itself. */
export interface SelfReport {
  readonly runtimeBrokerId: Uuid;
  readonly status: RuntimeBrokerStatus;
  /** Undefined or null: it says nothing of them. */
  readonly capabilities: Readonly<Record<string, unknown>> | null | undefined;
}

/**
 * Stamps the heartbeats of many runtime brokers, each named once, in id order. Of those that exist: whether what it says
 * of itself differs from what is stored.
 */
export const writeHeartbeats = async (
  db: Db,
  reports: readonly SelfReport[],
): Promise<ReadonlyMap<Uuid, { readonly differs: boolean }>> => {
  const { rows } = await sql<{ readonly id: Uuid; readonly differs: boolean }>`
    with known as materialized (
      select r.id, v.status <> r.status or v.capabilities::jsonb is distinct from coalesce(r.capabilities, 'null')
          and v.capabilities is not null as differs
      from unnest(${uuidArray(reports.map((r) => r.runtimeBrokerId))}::uuid[], ${reports.map((r) => r.status)}::text[],
        ${reports.map((r) => (r.capabilities ? JSON.stringify(r.capabilities) : null))}::text[])
        as v(id, status, capabilities)
      join runtime_brokers r on r.id = v.id),
    beat as (
      insert into runtime_broker_heartbeats (runtime_broker_id, last_heartbeat) select id, now() from known order by id
      on conflict (runtime_broker_id) do update set last_heartbeat = excluded.last_heartbeat)
    select id, differs from known`.execute(db);
  return new Map(rows.map((r) => [r.id, r]));
};

/**
 * Applies what runtime brokers say of themselves, to the rows that differ. Without a socket, a heartbeat makes nobody
 * anything but offline once `graceMs` has passed since the last socket ended: calls could not reach it.
 * Returns whether anything changed.
 */
export const applySelfReports = async (db: Db, reports: readonly SelfReport[], graceMs: number): Promise<boolean> => {
  const said = JSON.stringify(
    reports.map((r) => ({ id: r.runtimeBrokerId, status: r.status, capabilities: r.capabilities ?? null })),
  );
  const result = await sql`
    with wanted as (
      select r.id, coalesce(nullif(v.capabilities, 'null'::jsonb), r.capabilities) as capabilities,
        case when v.status = 'offline' or r.connected_hub_id is not null
          or r.disconnected_at > now() - ${graceMs} * interval '1 millisecond' then v.status else r.status end as status
      from jsonb_to_recordset(${said}::jsonb) as v(id uuid, status text, capabilities jsonb)
      join runtime_brokers r on r.id = v.id),
    differing as (
      select r.id, w.status, w.capabilities from wanted w join runtime_brokers r on r.id = w.id
      where (r.status, r.capabilities) is distinct from (w.status, w.capabilities)
      order by r.id for no key update of r)
    update runtime_brokers r set status = d.status, capabilities = d.capabilities, updated = now()
    from differing d where r.id = d.id`.execute(db);
  return (result.numAffectedRows ?? 0n) > 0n;
};
