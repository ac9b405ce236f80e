import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql, type Updateable } from "kysely";
import type { Db } from "../database.ts";
import type { AgentsTable } from "../tables.ts";
import { type AgentView, agentsInProjects, agentViews } from "./agentViews.ts";
import {
  after,
  all,
  COUNTED_EXACTLY,
  type Condition,
  expectedRows,
  type Page,
  type Position,
  type Total,
  totalOf,
} from "./keyset.ts";
import type { AgentRow } from "./lifecycle.ts";
import {
  type AgentPart,
  bothParts,
  ownedBy,
  partCondition,
  type ReadScope,
  readableAgent,
  readableAgentParts,
} from "./readScope.ts";

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

const sharedParts = ({ by, which }: NonNullable<AgentFilter["share"]>): readonly AgentPart[] => [
  ...(which === "shared" ? [] : [{ where: sql<boolean>`agents.owner_id = ${by}` }]),
  ...(which === "mine"
    ? []
    : [{ of: ownedBy(by), where: sql<boolean>`agents.owner_id is distinct from ${by}` } satisfies AgentPart]),
];

/** What the filter asks for, as parts of which each is found in the order of lists. */
const parts = (f: AgentFilter): readonly AgentPart[] => {
  const readable = readableAgentParts(f.scope);
  const { share } = f;
  return share === undefined ? readable : readable.flatMap((a) => sharedParts(share).map((b) => bothParts(a, b)));
};

const narrowed = (f: AgentFilter): Condition => {
  const list: Condition[] = [];
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
  return all(list);
};

/** Whether no row is in two of the parts: whoever owns an agent is not somebody else. */
const areApart = (f: AgentFilter): boolean => readableAgentParts(f.scope).length === 1;

/** Id and time of the first `limit` rows of a part; of the projects that it is about, each gives its first. */
const firstOf = (part: AgentPart, condition: Condition, limit: number, merged: Merged): RawBuilder<unknown> => {
  const ordered = sql`order by created desc, id desc limit ${limit}`;
  const rows = (more: Condition) =>
    sql`select agents.id, agents.created from agents where ${all([more, part.where, condition])} ${ordered}`;
  return part.of === undefined
    ? rows(sql`true`)
    : sql`select own.id, own.created from projects p
        cross join lateral (${rows(sql`agents.project_id = p.id`)}) own
        where ${part.of} ${merged === "in order" ? ordered : sql`limit ${limit}`}`;
};

/** How the rows of several projects come: those that are only counted in any order. */
type Merged = "in order" | "in any order";

/** Id and time of the first `limit` rows of a list, and perhaps of some behind them. */
const firstRows = (f: AgentFilter, condition: Condition, limit: number, merged: Merged): RawBuilder<unknown> =>
  sql.join(
    parts(f).map((part) => sql`(${firstOf(part, condition, limit, merged)})`),
    areApart(f) ? sql` union all ` : sql` union `,
  );

/** One page of agents, newest first. */
export const listAgents = (db: Db, filter: AgentFilter, page: Page): Promise<AgentView[]> => {
  const condition = all([narrowed(filter), after("agents", page.after)]);
  const [part, ...more] = parts(filter);
  const rows =
    part !== undefined && part.of === undefined && more.length === 0
      ? agentViews(db).where(part.where).where(condition)
      : agentViews(db).innerJoin(
          sql<Position>`(select * from (${firstRows(filter, condition, page.limit, "in order")}) as found
            order by created desc, id desc limit ${page.limit})`.as("page"),
          "page.id",
          "agents.id",
        );
  return rows.orderBy("agents.created", "desc").orderBy("agents.id", "desc").limit(page.limit).execute();
};

/**
 * How many agents the filter matches, estimated where they are many, and the database's clock; `limit` is that of the page. Read it before the page: what
 * is created in between is then later than the clock, and a client that keeps the clock as its watermark sees it as new,
 * never as gone.
 */
export const countAgents = async (
  db: Db,
  filter: AgentFilter,
  limit: number,
): Promise<Total & { readonly now: Date }> => {
  const condition = narrowed(filter);
  const most = COUNTED_EXACTLY + limit;
  const either = sql<boolean>`(${sql.join(parts(filter).map(partCondition), sql` or `)})`;
  // As a value like the limit of a page: told in the text, it may seem worth gathering a whole project to sort it.
  const counting = sql<{ counted: number; now: Date }>`
    select count(*)::int as counted, now() as now from (${firstRows(filter, condition, most + 1, "in any order")}) as found`.execute(
    db,
  );
  const expecting = expectedRows(db, sql`select from agents where ${all([either, condition])}`);
  const [{ rows }, expected] = await Promise.all([counting, expecting]);
  const [row] = rows;
  if (!row) throw new Error("a count returned no row");
  return { ...totalOf(row.counted, most, expected), now: row.now };
};

/** How many agents the filter matches, every single one counted: that takes as long as they are many. */
export const countAllAgents = async (db: Db, filter: AgentFilter): Promise<number> => {
  const condition = narrowed(filter);
  const rowsOf = parts(filter).map(
    (part) => sql`(select agents.id from agents where ${all([partCondition(part), condition])})`,
  );
  const { rows } = await sql<{ counted: number }>`select count(*)::int as counted
    from (${sql.join(rowsOf, areApart(filter) ? sql` union all ` : sql` union `)}) as found`.execute(db);
  return rows[0]?.counted ?? 0;
};

/** Where the agent with this id stands in the order of lists, if the caller may read it. */
export const agentPosition = (db: Db, scope: ReadScope, id: Uuid): Promise<Position | undefined> =>
  agentsInProjects(db)
    .where("agents.id", "=", id)
    .where(readableAgent(scope))
    .select(["agents.created", "agents.id"])
    .executeTakeFirst();

/** The agent with this id, soft-deleted ones included. */
export const agentById = (db: Db, id: Uuid): Promise<AgentView | undefined> =>
  agentViews(db).where("agents.id", "=", id).executeTakeFirst();

/** The agent that has this slug in the project; of several, the one not deleted, else the one deleted last. */
export const agentBySlug = (db: Db, projectId: Uuid, slug: string): Promise<AgentView | undefined> =>
  agentViews(db)
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
