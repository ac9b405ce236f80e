import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Condition } from "./keyset.ts";

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
    case "runtimeBroker":
      return sql<boolean>`exists (select 1 from project_providers p
        where p.project_id = projects.id and p.runtime_broker_id = ${scope.runtimeBrokerId})`;
  }
};

/** Readable rows of `agents` joined with `projects`, which the statement names so. */
export const readableAgent = (scope: ReadScope): Condition => {
  switch (scope.kind) {
    case "user":
      return sql<boolean>`(agents.owner_id = ${scope.userId} or agents.ancestry @> array[${scope.userId}::uuid]
        or projects.owner_id = ${scope.userId})`;
    case "runtimeBroker":
      return sql<boolean>`agents.runtime_broker_id = ${scope.runtimeBrokerId}`;
    default:
      return readableProject(scope);
  }
};
