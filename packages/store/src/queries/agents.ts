import type { Uuid } from "@rootstock/protocol";
import { sql, type Updateable } from "kysely";
import type { Db } from "../database.ts";
import type { AgentsTable } from "../tables.ts";
import { after, all, type Condition, type Page, type Position } from "./keyset.ts";
import type { AgentRow } from "./lifecycle.ts";
import { type ReadScope, readableAgent } from "./readScope.ts";

/** An agent with the names that clients show beside its ids. */
export interface AgentView extends AgentRow {
  readonly project_name: string;
  readonly project_owner_id: Uuid | null;
  readonly project_visibility: string;
  readonly runtime_broker_name: string | null;
  /** What its runtime broker would run it on: the kind of the first profile that is available there. */
  readonly likely_runtime: string | null;
}

/** What a list of agents is narrowed to; all given fields must hold (spec/02 2.6, spec/08 1.3). */
export interface AgentFilter {
  readonly scope: ReadScope;
  readonly projectId?: Uuid | undefined;
  readonly runtimeBrokerId?: Uuid | undefined;
  readonly phase?: string | undefined;
  readonly harnessConfig?: string | undefined;
  readonly ownerId?: Uuid | undefined;
  readonly ancestorId?: Uuid | undefined;
  readonly ids?: readonly Uuid[] | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** `mine`: owned by `by`; `shared`: of others, in projects that `by` owns; `any`: either. */
  readonly share?: { readonly by: Uuid; readonly which: "mine" | "shared" | "any" } | undefined;
  readonly includeDeleted?: boolean | undefined;
}

const shared = (by: Uuid): Condition =>
  sql<boolean>`(projects.owner_id = ${by} and agents.owner_id is distinct from ${by})`;

const conditions = (f: AgentFilter): Condition => {
  const list: Condition[] = [readableAgent(f.scope)];
  if (!f.includeDeleted) list.push(sql<boolean>`agents.deleted_at is null`);
  if (f.projectId !== undefined) list.push(sql<boolean>`agents.project_id = ${f.projectId}`);
  if (f.runtimeBrokerId !== undefined) list.push(sql<boolean>`agents.runtime_broker_id = ${f.runtimeBrokerId}`);
  if (f.phase !== undefined) list.push(sql<boolean>`agents.phase = ${f.phase}`);
  if (f.harnessConfig !== undefined)
    list.push(sql<boolean>`agents.applied_config ->> 'harnessConfig' = ${f.harnessConfig}`);
  if (f.ownerId !== undefined) list.push(sql<boolean>`agents.owner_id = ${f.ownerId}`);
  if (f.ancestorId !== undefined) list.push(sql<boolean>`agents.ancestry @> array[${f.ancestorId}::uuid]`);
  if (f.ids !== undefined) list.push(sql<boolean>`agents.id = any(${[...f.ids]}::uuid[])`);
  if (f.labels !== undefined) list.push(sql<boolean>`agents.labels @> ${JSON.stringify(f.labels)}::jsonb`);
  if (f.share?.which === "mine") list.push(sql<boolean>`agents.owner_id = ${f.share.by}`);
  if (f.share?.which === "shared") list.push(shared(f.share.by));
  if (f.share?.which === "any") list.push(sql<boolean>`(agents.owner_id = ${f.share.by} or ${shared(f.share.by)})`);
  return all(list);
};

const source = (db: Db) => db.selectFrom("agents").innerJoin("projects", "projects.id", "agents.project_id");

const views = (db: Db) =>
  source(db)
    .leftJoin("runtime_brokers", "runtime_brokers.id", "agents.runtime_broker_id")
    .selectAll("agents")
    .select([
      "projects.name as project_name",
      "projects.owner_id as project_owner_id",
      "projects.visibility as project_visibility",
      "runtime_brokers.name as runtime_broker_name",
      sql<string | null>`(select p.profile ->> 'type'
        from jsonb_array_elements(runtime_brokers.profiles) with ordinality as p (profile, place)
        where p.profile ->> 'available' = 'true' order by p.place limit 1)`.as("likely_runtime"),
    ]);

/** One page of agents, newest first. */
export const listAgents = (db: Db, filter: AgentFilter, page: Page): Promise<AgentView[]> =>
  views(db)
    .where(conditions(filter))
    .where(after("agents", page.after))
    .orderBy("agents.created", "desc")
    .orderBy("agents.id", "desc")
    .limit(page.limit)
    .execute();

/**
 * How many agents the filter matches, and the database's clock. Read it before the page: what is created in between is
 * then later than the clock, and a client that keeps the clock as its watermark sees it as new, never as gone.
 */
export const countAgents = async (db: Db, filter: AgentFilter): Promise<{ total: number; now: Date }> => {
  const row = await source(db)
    .where(conditions(filter))
    .select([sql<number>`count(*)::int`.as("total"), sql<Date>`now()`.as("now")])
    .executeTakeFirstOrThrow();
  return row;
};

/** Where the agent with this id stands in the order of lists, if the caller may read it. */
export const agentPosition = (db: Db, scope: ReadScope, id: Uuid): Promise<Position | undefined> =>
  source(db)
    .where("agents.id", "=", id)
    .where(readableAgent(scope))
    .select(["agents.created", "agents.id"])
    .executeTakeFirst();

/** The agent with this id, soft-deleted ones included. */
export const agentById = (db: Db, id: Uuid): Promise<AgentView | undefined> =>
  views(db).where("agents.id", "=", id).executeTakeFirst();

/** The agent that has this slug in the project; of several, the one not deleted, else the one deleted last. */
export const agentBySlug = (db: Db, projectId: Uuid, slug: string): Promise<AgentView | undefined> =>
  views(db)
    .where("agents.project_id", "=", projectId)
    .where("agents.slug", "=", slug)
    .orderBy("agents.deleted_at", (o) => o.desc().nullsFirst())
    .limit(1)
    .executeTakeFirst();

/** The agent's row, locked until the transaction ends. */
export const lockAgent = (tx: Db, id: Uuid): Promise<AgentRow | undefined> =>
  tx.selectFrom("agents").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();

/** What a person may change of an agent (spec/02 2.7). */
export type AgentChange = Pick<
  Updateable<AgentsTable>,
  "name" | "labels" | "annotations" | "task_summary" | "applied_config" | "image"
>;

/** Changes the agent and counts its version up. The row must be locked. */
export const changeAgent = async (tx: Db, id: Uuid, change: AgentChange): Promise<void> => {
  await tx
    .updateTable("agents")
    .set({ ...change, updated: sql`now()`, state_version: sql`state_version + 1` })
    .where("id", "=", id)
    .execute();
};
