import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import { all, type Condition } from "./keyset.ts";

/**
 * Which projects and agents a caller may read at all, as a condition that the database applies, so that pages are full
 * and counts are right. It says for sets what the access decision says for one resource; the two change together.
 */
export type ReadScope =
  | { readonly kind: "everything" }
  | { readonly kind: "nothing" }
  /** A person who is no admin: own projects and all in them, own agents and what descends, projects that are not private. */
  | { readonly kind: "user"; readonly userId: Uuid }
  /** An agent: its own project and everything in it. */
  | { readonly kind: "project"; readonly projectId: Uuid }
  /** A token of a person: what they may read, of one project. */
  | { readonly kind: "within"; readonly projectId: Uuid; readonly scope: ReadScope }
  /** A runtime broker: the projects that it serves and the agents that it runs. */
  | { readonly kind: "runtimeBroker"; readonly runtimeBrokerId: Uuid };

/** Readable rows of `projects`, which the statement names `projects`. */
export const readableProject = (scope: ReadScope): Condition => {
  switch (scope.kind) {
    case "everything":
      return sql<boolean>`true`;
    case "nothing":
      return sql<boolean>`false`;
    case "user":
      return sql<boolean>`(projects.owner_id = ${scope.userId} or projects.visibility <> 'private')`;
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
 * Some rows of `agents`, which the statement names `agents`: those that satisfy `where`, of the projects of one owner if
 * that is given. Said in parts because each part has an index in the order of lists, and an `or` of them has none.
 */
export interface AgentPart {
  readonly projectsOf?: Uuid;
  readonly where: Condition;
}

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
        { projectsOf: scope.userId, where: sql<boolean>`true` },
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

/** A part as one condition. */
export const partCondition = (part: AgentPart): Condition =>
  part.projectsOf === undefined
    ? part.where
    : sql<boolean>`(agents.project_id = any(array(select p.id from projects p where p.owner_id = ${part.projectsOf}))
        and ${part.where})`;

/** What is in both. */
export const bothParts = (a: AgentPart, b: AgentPart): AgentPart => {
  const projectsOf = a.projectsOf ?? b.projectsOf;
  // Only one of two owners can lead; the other's projects are looked up for each row.
  const rest = a.projectsOf !== undefined && a.projectsOf !== b.projectsOf ? partCondition(b) : b.where;
  return { ...(projectsOf !== undefined && { projectsOf }), where: all([a.where, rest]) };
};

/** Readable rows of `agents`, which the statement names so, as one condition. */
export const readableAgent = (scope: ReadScope): Condition =>
  sql<boolean>`(${sql.join(readableAgentParts(scope).map(partCondition), sql` or `)})`;
