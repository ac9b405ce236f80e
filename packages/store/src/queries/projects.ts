import type { Uuid } from "@rootstock/protocol";
import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { LOCK_CLASSES } from "../locks.ts";
import type { ProjectsTable } from "../tables.ts";
import { after, all, type Condition, type Page, type Position } from "./keyset.ts";
import { type ReadScope, readableProject } from "./readScope.ts";

export type ProjectRow = Selectable<ProjectsTable>;

/** A project with what is counted and looked up for it (spec/02 3.1). */
export interface ProjectView extends ProjectRow {
  readonly owner_name: string | null;
  /** Agents that are not deleted. */
  readonly agent_count: number;
  /** Runtime brokers that are online and serve the project or every project. */
  readonly active_runtime_broker_count: number;
  /** Whether a runtime broker serves it from a folder of its own machine. */
  readonly linked: boolean;
}

/** What a list of projects is narrowed to; all given fields must hold (spec/02 3.2). */
export interface ProjectFilter {
  readonly scope: ReadScope;
  readonly ownerId?: Uuid | undefined;
  readonly visibility?: string | undefined;
  /** Normalised. */
  readonly gitRemote?: string | undefined;
  /** Projects that this runtime broker serves. */
  readonly runtimeBrokerId?: Uuid | undefined;
  /** Compared without case. */
  readonly name?: string | undefined;
  /** Compared without case. */
  readonly slug?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** `mine`: owned by `by`; `shared`: readable and of others. */
  readonly share?: { readonly by: Uuid; readonly which: "mine" | "shared" } | undefined;
}

const conditions = (f: ProjectFilter): Condition => {
  const list: Condition[] = [readableProject(f.scope)];
  if (f.ownerId !== undefined) list.push(sql<boolean>`projects.owner_id = ${f.ownerId}`);
  if (f.visibility !== undefined) list.push(sql<boolean>`projects.visibility = ${f.visibility}`);
  if (f.gitRemote !== undefined) list.push(sql<boolean>`projects.git_remote = ${f.gitRemote}`);
  if (f.runtimeBrokerId !== undefined)
    list.push(sql<boolean>`exists (select 1 from project_providers p
      where p.project_id = projects.id and p.runtime_broker_id = ${f.runtimeBrokerId})`);
  if (f.name !== undefined) list.push(sql<boolean>`lower(projects.name) = lower(${f.name})`);
  if (f.slug !== undefined) list.push(sql<boolean>`projects.slug = lower(${f.slug})`);
  if (f.labels !== undefined) list.push(sql<boolean>`projects.labels @> ${JSON.stringify(f.labels)}::jsonb`);
  if (f.share?.which === "mine") list.push(sql<boolean>`projects.owner_id = ${f.share.by}`);
  if (f.share?.which === "shared") list.push(sql<boolean>`projects.owner_id is distinct from ${f.share.by}`);
  return all(list);
};

/** Runtime brokers that serve everything are counted once for the statement, the others for each project by index. */
const activeRuntimeBrokers = sql<number>`(
  (select count(*) from runtime_brokers b where b.status = 'online' and b.auto_provide)
  + (select count(*) from project_providers p join runtime_brokers b on b.id = p.runtime_broker_id
     where p.project_id = projects.id and b.status = 'online' and not b.auto_provide))::int`;

const views = (db: Db) =>
  db
    .selectFrom("projects")
    .leftJoin("users", "users.id", "projects.owner_id")
    .selectAll("projects")
    .select([
      sql<string | null>`coalesce(nullif(users.display_name, ''), users.email)`.as("owner_name"),
      sql<number>`(select count(*) from agents a
        where a.project_id = projects.id and a.deleted_at is null)::int`.as("agent_count"),
      activeRuntimeBrokers.as("active_runtime_broker_count"),
      sql<boolean>`exists (select 1 from project_providers p where p.project_id = projects.id
        and p.local_path <> '' and position('/.scion/projects/' in p.local_path) = 0)`.as("linked"),
    ]);

/** One page of projects, newest first. */
export const listProjects = (db: Db, filter: ProjectFilter, page: Page): Promise<ProjectView[]> =>
  views(db)
    .where(conditions(filter))
    .where(after("projects", page.after))
    .orderBy("projects.created", "desc")
    .orderBy("projects.id", "desc")
    .limit(page.limit)
    .execute();

/** How many projects the filter matches. */
export const countProjects = async (db: Db, filter: ProjectFilter): Promise<number> => {
  const row = await db
    .selectFrom("projects")
    .where(conditions(filter))
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return row.total;
};

/** Where the project with this id stands in the order of lists, if the caller may read it. */
export const projectPosition = (db: Db, scope: ReadScope, id: Uuid): Promise<Position | undefined> =>
  db
    .selectFrom("projects")
    .where("id", "=", id)
    .where(readableProject(scope))
    .select(["created", "id"])
    .executeTakeFirst();

/** The project with this id, with its counts. */
export const projectById = (db: Db, id: Uuid): Promise<ProjectView | undefined> =>
  views(db).where("projects.id", "=", id).executeTakeFirst();

/** The project's row alone: what an access decision needs. */
export const projectRow = (db: Db, id: Uuid): Promise<ProjectRow | undefined> =>
  db.selectFrom("projects").selectAll().where("id", "=", id).executeTakeFirst();

/**
 * Whether a project that is gone had this id and was another one's than this person's. What is kept about it goes by its id.
 */
export const wasAnothers = async (db: Db, id: Uuid, ownerId: Uuid): Promise<boolean> => {
  const former = await db.selectFrom("former_projects").select("owner_id").where("id", "=", id).executeTakeFirst();
  return former !== undefined && former.owner_id !== ownerId;
};

/** The project's row, locked until the transaction ends. */
export const lockProject = (tx: Db, id: Uuid): Promise<ProjectRow | undefined> =>
  tx.selectFrom("projects").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();

/** Projects of a git remote (normalised), oldest first. */
export const projectsByGitRemote = (db: Db, scope: ReadScope, gitRemote: string): Promise<ProjectRow[]> =>
  db
    .selectFrom("projects")
    .selectAll()
    .where("git_remote", "=", gitRemote)
    .where(readableProject(scope))
    .orderBy("created")
    .orderBy("id")
    .execute();

/** The project with this slug, if the caller may read it. */
export const projectBySlug = (db: Db, scope: ReadScope, slug: string): Promise<ProjectRow | undefined> =>
  db.selectFrom("projects").selectAll().where("slug", "=", slug).where(readableProject(scope)).executeTakeFirst();

/** Waits for whoever registers a project under the same key, until this transaction ends. */
export const lockRegistration = async (tx: Db, key: string): Promise<void> => {
  await sql`select pg_advisory_xact_lock(${LOCK_CLASSES.projectRegistration}::int, hashtext(${key}))`.execute(tx);
};

/**
 * The slugs that are taken, of those that a project named `base` may get: what projects have, and what those of others
 * than this owner had. Their files may be there still, on runtime brokers.
 */
export const slugsLike = async (db: Db, base: string, ownerId: Uuid): Promise<string[]> => {
  const like = sql<boolean>`(slug = ${base} or (starts_with(slug, ${`${base}-`}) and slug ~ '-[0-9]+$'))`;
  const { rows } = await sql<{ slug: string }>`
    select slug from projects where ${like}
    union select slug from former_slugs where ${like} and owner_id is distinct from ${ownerId}::uuid`.execute(db);
  return rows.map((r) => r.slug);
};

/** Whether another project than this one, of somebody else than this owner, had the slug. */
export const slugWasAnothers = async (
  db: Db,
  p: { readonly slug: string; readonly projectId: Uuid; readonly ownerId: Uuid | null },
): Promise<boolean> => {
  const { rows } = await sql<{ found: boolean }>`
    select exists (select from former_slugs where slug = ${p.slug} and project_id <> ${p.projectId}::uuid
      and owner_id is distinct from ${p.ownerId}::uuid) as found`.execute(db);
  return rows[0]?.found === true;
};

/** Inserts the project; undefined when its id or its slug is taken, also by a transaction that commits meanwhile. */
export const insertProject = (tx: Db, project: Insertable<ProjectsTable>): Promise<ProjectRow | undefined> =>
  audited(tx, (own) =>
    own
      .insertInto("projects")
      .values(project)
      .onConflict((c) => c.doNothing())
      .returningAll()
      .executeTakeFirst(),
  );

export type ProjectChange = Pick<
  Updateable<ProjectsTable>,
  "name" | "slug" | "labels" | "annotations" | "visibility" | "default_runtime_broker_id" | "shared_dirs"
>;

/** Changes the project. Throws a unique violation when the slug is taken, a foreign key one for an unknown runtime broker. */
export const changeProject = (tx: Db, id: Uuid, change: ProjectChange): Promise<void> =>
  audited(tx, async (own) => {
    await own
      .updateTable("projects")
      .set({ ...change, updated: sql`now()` })
      .where("id", "=", id)
      .execute();
  });
