import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql, type Updateable } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { Labels, RuntimeBrokersTable } from "../tables.ts";
import { after, all, type Condition, type Page, type Position } from "./keyset.ts";
import { type ReadScope, readableProject } from "./readScope.ts";

/** Runtime brokers as the registry shows them. Who holds their sockets: `affinity.ts`. */

/** A runtime broker with the time of its last heartbeat (null: never) and its creator's name. */
export type RuntimeBrokerRow = Selectable<RuntimeBrokersTable> & {
  last_heartbeat: Date | null;
  created_by_name: string | null;
};

const withHeartbeat = (db: Db) =>
  db
    .selectFrom("runtime_brokers as r")
    .leftJoin("runtime_broker_heartbeats as h", "h.runtime_broker_id", "r.id")
    .leftJoin("users as u", "u.id", "r.created_by")
    .selectAll("r")
    .select(["h.last_heartbeat", "u.display_name as created_by_name"]);

export const findRuntimeBroker = (db: Db, id: Uuid): Promise<RuntimeBrokerRow | undefined> =>
  withHeartbeat(db).where("r.id", "=", id).executeTakeFirst();

/** By name, whatever the case. */
export const findRuntimeBrokerByName = (db: Db, name: string): Promise<RuntimeBrokerRow | undefined> =>
  withHeartbeat(db).where(sql`lower(r.name)`, "=", sql`lower(${name})`).executeTakeFirst();

export interface RuntimeBrokerFilter {
  readonly status?: string | undefined;
  readonly name?: string | undefined;
  /** Providers of this project, and every runtime broker that provides for all. */
  readonly projectId?: Uuid | undefined;
}

/** The ids of those that serve the project: its own, and those for all. */
export const serving = (projectId: Uuid) => sql`
  select runtime_broker_id from project_providers where project_id = ${projectId}
  union select id from runtime_brokers where auto_provide`;

const matches = (filter: RuntimeBrokerFilter): Condition =>
  all([
    ...(filter.status === undefined ? [] : [sql<boolean>`r.status = ${filter.status}`]),
    ...(filter.name === undefined ? [] : [sql<boolean>`lower(r.name) = lower(${filter.name})`]),
    ...(filter.projectId === undefined ? [] : [sql<boolean>`r.id = any(array(${serving(filter.projectId)}))`]),
  ]);

const providing = (filter: RuntimeBrokerFilter) =>
  sql`runtime_brokers r
    left join project_providers p on p.runtime_broker_id = r.id and p.project_id = ${filter.projectId ?? null}::uuid`;

/** Newest first. `local_path`: where the project of the filter lies on that machine. */
export const listRuntimeBrokers = async (
  db: Db,
  filter: RuntimeBrokerFilter,
  page: Page,
): Promise<readonly (RuntimeBrokerRow & { readonly local_path: string | null })[]> => {
  const { rows } = await sql<RuntimeBrokerRow & { readonly local_path: string | null }>`
    select r.*, h.last_heartbeat, u.display_name as created_by_name, p.local_path
    from ${providing(filter)}
    left join runtime_broker_heartbeats h on h.runtime_broker_id = r.id
    left join users u on u.id = r.created_by
    where ${matches(filter)} and ${after("r", page.after)}
    order by r.created desc, r.id desc limit ${page.limit}`.execute(db);
  return rows;
};

/** How many `listRuntimeBrokers` would list on all pages together. */
export const countRuntimeBrokers = async (db: Db, filter: RuntimeBrokerFilter): Promise<number> => {
  const { rows } = await sql<{ readonly total: string }>`
    select count(*) as total from ${providing(filter)} where ${matches(filter)}`.execute(db);
  return Number(rows[0]?.total ?? 0);
};

/** The place of a runtime broker in that order; undefined when it is gone. */
export const runtimeBrokerPosition = (db: Db, id: Uuid): Promise<Position | undefined> =>
  db.selectFrom("runtime_brokers").select(["created", "id"]).where("id", "=", id).executeTakeFirst();

export interface NewRuntimeBroker {
  readonly id: Uuid;
  readonly name: string;
  readonly slug: string;
  readonly autoProvide: boolean;
  readonly labels: Labels;
  readonly createdBy: Uuid;
}

/** Fails with a unique violation when the name (whatever the case) or the id is taken. */
export const insertRuntimeBroker = (db: Db, row: NewRuntimeBroker): Promise<void> =>
  audited(db, async (tx) => {
    await tx
      .insertInto("runtime_brokers")
      .values({
        id: row.id,
        name: row.name,
        slug: row.slug,
        auto_provide: row.autoProvide,
        labels: JSON.stringify(row.labels),
        created_by: row.createdBy,
      })
      .execute();
  });

/** Writes the given columns and returns whether the row is there. */
export const updateRuntimeBroker = (
  db: Db,
  id: Uuid,
  change: Pick<Updateable<RuntimeBrokersTable>, "name" | "slug" | "labels" | "auto_provide">,
): Promise<boolean> =>
  audited(db, async (tx) => {
    const result = await tx
      .updateTable("runtime_brokers")
      .set({ ...change, updated: sql`now()` })
      .where("id", "=", id)
      .executeTakeFirst();
    return result.numUpdatedRows > 0n;
  });

/**
 * A runtime broker has joined: online until the grace for its first socket is over, which counts from now
 * (spec/01 1.3). The affinity of a machine that joined before stays until its socket ends.
 */
export const markRuntimeBrokerJoined = async (
  db: Db,
  id: Uuid,
  said: { readonly version: string; readonly profiles: readonly Record<string, unknown>[] | undefined },
): Promise<void> => {
  await sql`
    with joined as (
      update runtime_brokers set status = 'online', version = ${said.version}, updated = now(),
        profiles = coalesce(${said.profiles ? JSON.stringify(said.profiles) : null}::jsonb, profiles),
        disconnected_at = case when connected_hub_id is null then now() end
      where id = ${id} returning id)
    insert into runtime_broker_heartbeats (runtime_broker_id, last_heartbeat) select id, now() from joined
    on conflict (runtime_broker_id) do update set last_heartbeat = excluded.last_heartbeat`.execute(db);
};

export interface ProvidedProject {
  readonly id: Uuid;
  readonly name: string;
  readonly slug: string;
  readonly git_remote: string | null;
  readonly local_path: string | null;
  readonly agent_count: number;
}

/** The projects that a runtime broker provides for, of those that `scope` lets read, with the number of their agents on it. */
export const listProvidedProjects = async (
  db: Db,
  runtimeBrokerId: Uuid,
  scope: ReadScope,
): Promise<readonly ProvidedProject[]> => {
  const { rows } = await sql<ProvidedProject>`
    select projects.id, projects.name, projects.slug, projects.git_remote, v.local_path,
      (select count(*)::int from agents a
        where a.project_id = projects.id and a.runtime_broker_id = v.runtime_broker_id and a.deleted_at is null) as agent_count
    from project_providers v join projects on projects.id = v.project_id
    where v.runtime_broker_id = ${runtimeBrokerId} and ${readableProject(scope)}
    order by projects.name, projects.id`.execute(db);
  return rows;
};
