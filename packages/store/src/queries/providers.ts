import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { RuntimeBrokerStatus } from "../tables.ts";

/** A runtime broker that serves a project (spec/02 3.4). */
export interface ProviderView {
  readonly id: Uuid;
  readonly project_id: Uuid;
  readonly runtime_broker_id: Uuid;
  readonly runtime_broker_name: string;
  readonly status: RuntimeBrokerStatus;
  readonly last_heartbeat: Date | null;
  readonly local_path: string | null;
  readonly linked_by: string | null;
  readonly linked_at: Date;
}

const views = (db: Db) =>
  db
    .selectFrom("project_providers as p")
    .innerJoin("runtime_brokers as b", "b.id", "p.runtime_broker_id")
    .leftJoin("runtime_broker_heartbeats as h", "h.runtime_broker_id", "p.runtime_broker_id")
    .select([
      "p.id",
      "p.project_id",
      "p.runtime_broker_id",
      "b.name as runtime_broker_name",
      "b.status",
      "h.last_heartbeat",
      "p.local_path",
      "p.linked_by",
      "p.linked_at",
    ]);

/** Every runtime broker that serves the project, the longest linked first. */
export const listProviders = (db: Db, projectId: Uuid): Promise<ProviderView[]> =>
  views(db).where("p.project_id", "=", projectId).orderBy("p.linked_at").orderBy("p.id").execute();

/** How this runtime broker serves the project, if it does. */
export const providerOf = (db: Db, projectId: Uuid, runtimeBrokerId: Uuid): Promise<ProviderView | undefined> =>
  views(db).where("p.project_id", "=", projectId).where("p.runtime_broker_id", "=", runtimeBrokerId).executeTakeFirst();

/** The project's row before those of its links, as everybody who needs both. */
const lockForLinks = (tx: Db, projectId: Uuid) =>
  sql`select from projects where id = ${projectId} for no key update`.execute(tx);

export interface ProviderLink {
  readonly projectId: Uuid;
  readonly runtimeBrokerId: Uuid;
  /** Null keeps the folder that is stored. */
  readonly localPath: string | null;
  readonly linkedBy: string;
}

/**
 * Links the runtime broker to the project, or changes the folder of an existing link: who made the link first, and
 * when, stays. Throws a foreign key violation when either is gone.
 */
export const linkProvider = (tx: Db, link: ProviderLink): Promise<void> =>
  audited(tx, async (own) => {
    await lockForLinks(own, link.projectId);
    await own
      .insertInto("project_providers")
      .values({
        project_id: link.projectId,
        runtime_broker_id: link.runtimeBrokerId,
        local_path: link.localPath,
        linked_by: link.linkedBy,
      })
      .onConflict((c) =>
        c
          .columns(["project_id", "runtime_broker_id"])
          .doUpdateSet({ local_path: sql`coalesce(excluded.local_path, project_providers.local_path)` }),
      )
      .execute();
  });

/** Links every runtime broker that serves all projects (spec/01 1.7). */
export const linkAutoProviders = (tx: Db, projectId: Uuid): Promise<void> =>
  audited(tx, async (own) => {
    await own
      .insertInto("project_providers")
      .columns(["project_id", "runtime_broker_id", "linked_by"])
      .expression((eb) =>
        eb
          .selectFrom("runtime_brokers")
          .select([
            sql<Uuid>`${projectId}::uuid`.as("project_id"),
            "id as runtime_broker_id",
            sql<string>`'auto-provide'`.as("linked_by"),
          ])
          .where("auto_provide", "=", true),
      )
      .onConflict((c) => c.doNothing())
      .execute();
  });

/** Makes a runtime broker that serves the project its default when it has none: an online one first, then the oldest. */
export const chooseDefaultRuntimeBroker = (tx: Db, projectId: Uuid): Promise<void> =>
  audited(tx, async (own) => {
    await own
      .updateTable("projects")
      .set({
        default_runtime_broker_id: (eb) =>
          eb
            .selectFrom("project_providers as p")
            .innerJoin("runtime_brokers as b", "b.id", "p.runtime_broker_id")
            .select("b.id")
            .where("p.project_id", "=", projectId)
            .orderBy(sql`b.status = 'online'`, "desc")
            .orderBy("b.created")
            .limit(1),
        updated: sql`now()`,
      })
      .where("id", "=", projectId)
      .where("default_runtime_broker_id", "is", null)
      .where((eb) =>
        eb.exists(eb.selectFrom("project_providers as q").select("q.id").where("q.project_id", "=", projectId)),
      )
      .execute();
  });

/** Makes this runtime broker the project's default when it has none. */
export const defaultRuntimeBrokerIfNone = (tx: Db, projectId: Uuid, runtimeBrokerId: Uuid): Promise<void> =>
  audited(tx, async (own) => {
    await own
      .updateTable("projects")
      .set({ default_runtime_broker_id: runtimeBrokerId, updated: sql`now()` })
      .where("id", "=", projectId)
      .where("default_runtime_broker_id", "is", null)
      .execute();
  });

/**
 * Ends the link, and takes the runtime broker away as the project's default. False when there was no link.
 */
export const unlinkProvider = (tx: Db, projectId: Uuid, runtimeBrokerId: Uuid): Promise<boolean> =>
  audited(tx, async (own) => {
    await lockForLinks(own, projectId);
    const removed = await own
      .deleteFrom("project_providers")
      .where("project_id", "=", projectId)
      .where("runtime_broker_id", "=", runtimeBrokerId)
      .executeTakeFirst();
    if (removed.numDeletedRows === 0n) return false;
    await own
      .updateTable("projects")
      .set({ default_runtime_broker_id: null, updated: sql`now()` })
      .where("id", "=", projectId)
      .where("default_runtime_broker_id", "=", runtimeBrokerId)
      .execute();
    return true;
  });
