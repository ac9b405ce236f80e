import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import type { RuntimeBrokerStatus } from "../tables.ts";
import { serving } from "./runtimeBrokers.ts";

/** A runtime broker that a new agent of a project could run on. */
export interface RuntimeBrokerCandidate {
  readonly id: Uuid;
  readonly name: string;
  readonly status: RuntimeBrokerStatus;
  readonly createdBy: Uuid | null;
  readonly autoProvide: boolean;
  readonly isProvider: boolean;
  readonly isDefault: boolean;
  readonly localPath: string | null;
  readonly connectedHubId: Uuid | null;
  /** Seconds since its last socket ended; null while connected, or when it never had one. */
  readonly awaySeconds: number | null;
}

const select = (db: Db, projectId: Uuid, where: RawBuilder<unknown>): Promise<RuntimeBrokerCandidate[]> =>
  sql<RuntimeBrokerCandidate>`
    select rb.id, rb.name, rb.status, rb.created_by as "createdBy", rb.auto_provide as "autoProvide",
           pp.id is not null as "isProvider", rb.id is not distinct from p.default_runtime_broker_id as "isDefault",
           pp.local_path as "localPath", rb.connected_hub_id as "connectedHubId",
           extract(epoch from now() - rb.disconnected_at)::float8 as "awaySeconds"
      from runtime_brokers rb
      join projects p on p.id = ${projectId}
      left join project_providers pp on pp.project_id = p.id and pp.runtime_broker_id = rb.id
     where ${where}`
    .execute(db)
    .then((result) => result.rows);

/** Those that serve the project, or everybody: the default first, then by name. */
export const runtimeBrokerCandidates = (db: Db, projectId: Uuid): Promise<RuntimeBrokerCandidate[]> =>
  select(
    db,
    projectId,
    sql`rb.id = any(array(${serving(projectId)}
        union select default_runtime_broker_id from projects where id = ${projectId}))
      order by (rb.id is not distinct from p.default_runtime_broker_id) desc, lower(rb.name) limit 200`,
  );

/** Those whose id, name or slug this is; several only when a slug is not unique. */
export const runtimeBrokersNamed = (
  db: Db,
  p: { readonly projectId: Uuid; readonly name: string; readonly id: Uuid | undefined },
): Promise<RuntimeBrokerCandidate[]> =>
  select(
    db,
    p.projectId,
    sql`rb.id = any(array(
        select id from runtime_brokers where id = ${p.id ?? null}::uuid
        union select id from runtime_brokers where lower(name) = lower(${p.name})
        union select id from runtime_brokers where slug = ${p.name}))
      order by (rb.id is not distinct from ${p.id ?? null}::uuid) desc, (lower(rb.name) = lower(${p.name})) desc limit 2`,
  );
