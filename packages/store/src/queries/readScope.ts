import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Labels } from "../tables.ts";
import { all, type Condition } from "./keyset.ts";

/**
 * Which projects and agents a caller may read at all, as a condition that the database applies, so that pages are full
 * and counts are right. It says for sets what the access decision says for one resource; the two change together.
 */
export type ReadScope =
  | { readonly kind: "everything" }
  | { readonly kind: "nothing" }
  /**
   * A person who is no admin: own projects and all in them, own agents and what descends from them, and what groups and
   * policies show.
   */
  | { readonly kind: "user"; readonly userId: Uuid; readonly grants?: ReadGrants }
  /** An agent: its own project and everything in it. */
  | { readonly kind: "project"; readonly projectId: Uuid }
  /** A token of a person: what they may read, of one project. */
  | { readonly kind: "within"; readonly projectId: Uuid; readonly scope: ReadScope }
  /** A runtime broker: the projects that it serves and the agents that it runs. */
  | { readonly kind: "runtimeBroker"; readonly runtimeBrokerId: Uuid };

/** What groups and policies show a person. */
export interface ReadGrants {
  /** Projects that the person runs: no rule hides anything in them. */
  readonly managed: readonly Uuid[];
  /** Projects that the person is a member of: shown unless a rule hides it. */
  readonly joined: readonly Uuid[];
  /** Of projects; the first rule that holds decides. What no rule is about is shown where the project is public. */
  readonly projects: readonly ReadRule[];
  /** Of agents, likewise. */
  readonly agents: readonly ReadRule[];
}

/** A policy about reading; all that is given must hold. */
export interface ReadRule {
  readonly allow: boolean;
  readonly projectId?: Uuid;
  /** The row is each of these. */
  readonly ids: readonly Uuid[];
  readonly labels?: Labels;
  /** How visible it is: an agent never more than its project. */
  readonly visibility?: readonly string[];
}

const NO_GRANTS: ReadGrants = { managed: [], joined: [], projects: [], agents: [] };

const among = (column: string, ids: readonly Uuid[]): Condition =>
  ids.length === 0 ? sql<boolean>`false` : sql<boolean>`${sql.ref(column)} = any(${[...ids]}::uuid[])`;

/** Rows that rules are about: of the project in column `project`, and as visible as `visibility` says. */
interface RuledRows {
  readonly table: string;
  readonly project: string;
  readonly visibility: Condition | ReturnType<typeof sql>;
}

/** What the rules say of a row. */
const ruled = (rules: readonly ReadRule[], joined: readonly Uuid[], row: RuledRows): Condition => {
  const otherwise = sql<boolean>`(${among(row.project, joined)} or ${row.visibility} = 'public')`;
  if (rules.length === 0) return otherwise;
  const holds = (r: ReadRule): Condition =>
    all([
      ...(r.projectId === undefined ? [] : [sql<boolean>`${sql.ref(row.project)} = ${r.projectId}`]),
      ...r.ids.map((id) => sql<boolean>`${sql.ref(`${row.table}.id`)} = ${id}`),
      ...(r.labels === undefined
        ? []
        : [sql<boolean>`${sql.ref(`${row.table}.labels`)} @> ${JSON.stringify(r.labels)}::jsonb`]),
      ...(r.visibility === undefined ? [] : [sql<boolean>`${row.visibility} = any(${[...r.visibility]}::text[])`]),
    ]);
  const cases = rules.map((r) => sql`when ${holds(r)} then ${sql.lit(r.allow)}`);
  return sql<boolean>`(case ${sql.join(cases, sql` `)} else ${otherwise} end)`;
};

/** Readable rows of `projects`, which the statement names `projects`. */
export const readableProject = (scope: ReadScope): Condition => {
  switch (scope.kind) {
    case "everything":
      return sql<boolean>`true`;
    case "nothing":
      return sql<boolean>`false`;
    case "user": {
      const { managed, joined, projects } = scope.grants ?? NO_GRANTS;
      const shown = ruled(projects, joined, {
        table: "projects",
        project: "projects.id",
        visibility: sql`projects.visibility`,
      });
      return sql<boolean>`(projects.owner_id = ${scope.userId} or ${among("projects.id", managed)} or ${shown})`;
    }
    case "project":
      return sql<boolean>`projects.id = ${scope.projectId}`;
    case "within":
      return sql<boolean>`(projects.id = ${scope.projectId} and ${readableProject(scope.scope)})`;
    case "runtimeBroker":
      return sql<boolean>`exists (select 1 from project_providers p
        where p.project_id = projects.id and p.runtime_broker_id = ${scope.runtimeBrokerId})`;
  }
};

/**
 * Some rows of `agents`, which the statement names `agents`: those that satisfy `where`, of the projects, named `p`, that
 * satisfy `of` if that is given. Said in parts because each part has an index in the order of lists, and an `or` of them
 * has none.
 */
export interface AgentPart {
  readonly of?: Condition;
  readonly where: Condition;
}

/** Projects of one owner, as the `of` of a part. */
export const ownedBy = (userId: Uuid): Condition => sql<boolean>`p.owner_id = ${userId}`;

/** The agents that a caller may read: the union of these parts. */
export const readableAgentParts = (scope: ReadScope): readonly AgentPart[] => {
  switch (scope.kind) {
    case "everything":
      return [{ where: sql<boolean>`true` }];
    case "nothing":
      return [{ where: sql<boolean>`false` }];
    case "user":
      return [
        { where: sql<boolean>`agents.owner_id = ${scope.userId}` },
        // A person starts agents and is started by none: only ever the root.
        { where: sql<boolean>`agents.ancestry[1] = ${scope.userId}` },
        { of: ownedBy(scope.userId), where: sql<boolean>`true` },
        ...grantedAgents(scope.grants ?? NO_GRANTS),
      ];
    case "project":
      return [{ where: sql<boolean>`agents.project_id = ${scope.projectId}` }];
    case "within": {
      const inside: AgentPart = { where: sql<boolean>`agents.project_id = ${scope.projectId}` };
      return readableAgentParts(scope.scope).map((part) => bothParts(part, inside));
    }
    case "runtimeBroker":
      return [{ where: sql<boolean>`agents.runtime_broker_id = ${scope.runtimeBrokerId}` }];
  }
};

/** What groups and policies show of agents: looked for where some rule allows something, and there as all rules say. */
const grantedAgents = ({ managed, joined, agents: rules }: ReadGrants): readonly AgentPart[] => {
  const visibility = sql`(select case when 'private' in (agents.visibility, v.visibility) then 'private'
      when 'team' in (agents.visibility, v.visibility) then 'team' else 'public' end
    from projects v where v.id = agents.project_id)`;
  const shown = ruled(rules, joined, { table: "agents", project: "agents.project_id", visibility });
  const allowing = rules.filter((r) => r.allow);
  const wide = allowing.filter((r) => r.projectId === undefined && r.ids.length === 0);
  const projects = [...joined, ...allowing.flatMap((r) => r.projectId ?? [])];
  const single = allowing.filter((r) => r.projectId === undefined).flatMap((r) => r.ids.slice(0, 1));
  const parts: AgentPart[] = [];
  if (managed.length > 0) parts.push({ of: among("p.id", managed), where: sql<boolean>`true` });
  if (projects.length > 0) parts.push({ of: among("p.id", projects), where: shown });
  if (single.length > 0) parts.push({ where: all([among("agents.id", single), shown]) });
  const anywhere = wide.some((r) => r.visibility?.includes("private") ?? true);
  // The few that are not private have an index of their own.
  parts.push({ where: anywhere ? shown : all([sql<boolean>`agents.visibility <> 'private'`, shown]) });
  return parts;
};

/** Rows of `projects` all of whose agents the caller may read: those that are there, and those to come. */
export const readableWithAgents = (scope: ReadScope): Condition => {
  if (scope.kind !== "user") return readableProject(scope);
  const { managed, joined, agents } = scope.grants ?? NO_GRANTS;
  // A rule that hides may hide single agents, and one that looks at them shows no more than some.
  const hiding = agents.some((r) => !r.allow);
  const whole = agents.filter((r) => r.labels === undefined && r.visibility === undefined && r.ids.length === 0);
  const shown = hiding
    ? []
    : [
        among("projects.id", joined),
        ...whole.map((r) =>
          r.projectId === undefined ? sql<boolean>`true` : sql<boolean>`projects.id = ${r.projectId}`,
        ),
      ];
  const all = [sql<boolean>`projects.owner_id = ${scope.userId}`, among("projects.id", managed), ...shown];
  return sql<boolean>`(${sql.join(all, sql` or `)})`;
};

/** A part as one condition. */
export const partCondition = (part: AgentPart): Condition =>
  part.of === undefined
    ? part.where
    : sql<boolean>`(agents.project_id = any(array(select p.id from projects p where ${part.of})) and ${part.where})`;

/** What is in both. */
export const bothParts = (a: AgentPart, b: AgentPart): AgentPart => {
  const of = a.of && b.of ? all([a.of, b.of]) : (a.of ?? b.of);
  return { ...(of && { of }), where: all([a.where, b.where]) };
};

/** Readable rows of `agents`, which the statement names so, as one condition. */
export const readableAgent = (scope: ReadScope): Condition =>
  sql<boolean>`(${sql.join(readableAgentParts(scope).map(partCondition), sql` or `)})`;

/** What shows a person groups: those that they are in (`own`), and what policies about groups say of the others. */
export interface GroupGrants {
  readonly own: readonly Uuid[];
  readonly rules: readonly ReadRule[];
}

/** Readable rows of `groups`, which the statement names so and joins with `projects`, theirs. */
export const readableGroup = (scope: ReadScope, { own, rules }: GroupGrants): Condition => {
  if (scope.kind === "everything") return sql<boolean>`true`;
  if (scope.kind !== "user") return sql<boolean>`false`;
  const { managed, joined } = scope.grants ?? NO_GRANTS;
  const visibility = sql`(case when groups.project_id is null then 'team' else projects.visibility end)`;
  const shown = ruled(rules, joined, { table: "groups", project: "groups.project_id", visibility });
  return sql<boolean>`(${among("groups.id", own)} or groups.owner_id = ${scope.userId}
    or coalesce(projects.owner_id = ${scope.userId}, false) or ${among("groups.project_id", managed)}
    or coalesce(${shown}, false))`;
};

/** Readable rows of `users`, which the statement names so: oneself, and whom policies about people show. */
export const readableUser = (scope: ReadScope, rules: readonly ReadRule[]): Condition => {
  if (scope.kind === "everything") return sql<boolean>`true`;
  if (scope.kind !== "user") return sql<boolean>`false`;
  // People are of no project, have no labels, and are shown as what the team sees.
  const about = rules.filter((r) => r.projectId === undefined && r.labels === undefined);
  const shown = ruled(about, [], { table: "users", project: "users.id", visibility: sql`'team'::text` });
  return sql<boolean>`(users.id = ${scope.userId} or ${shown})`;
};
