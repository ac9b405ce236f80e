import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import type { Visibility } from "../tables.ts";
import type { AgentRow } from "./lifecycle.ts";

/** An agent with the names that clients show beside its ids. */
export interface AgentView extends AgentRow {
  readonly project_name: string;
  readonly project_owner_id: Uuid | null;
  readonly project_visibility: Visibility;
  readonly runtime_broker_name: string | null;
  /** What its runtime broker would run it on: the kind of the first profile that is available there. */
  readonly likely_runtime: string | null;
}

/** Agents beside their projects. */
export const agentsInProjects = (db: Db) =>
  db.selectFrom("agents").innerJoin("projects", "projects.id", "agents.project_id");

/** What the runtime broker `runtime_brokers` would run an agent on. */
const likelyRuntime = sql<string | null>`(select p.profile ->> 'type'
  from jsonb_array_elements(runtime_brokers.profiles) with ordinality as p (profile, place)
  where p.profile ->> 'available' = 'true' order by p.place limit 1)`;

/** The SELECT of an {@link AgentView} of what a statement has just written as `agents`: not to be read from the table yet. */
export const viewOfWritten = (agents: RawBuilder<unknown>) => sql`
  select agents.*, projects.name as project_name, projects.owner_id as project_owner_id,
         projects.visibility as project_visibility, runtime_brokers.name as runtime_broker_name,
         ${likelyRuntime} as likely_runtime
    from ${agents} as agents join projects on projects.id = agents.project_id
    left join runtime_brokers on runtime_brokers.id = agents.runtime_broker_id`;

/** A left or right join makes every column of the agent null together, or none. */
export const isThere = (agent: { readonly [K in keyof AgentView]: AgentView[K] | null }): agent is AgentView =>
  agent.id !== null;

/** Agents with the names beside their ids. */
export const agentViews = (db: Db) =>
  agentsInProjects(db)
    .leftJoin("runtime_brokers", "runtime_brokers.id", "agents.runtime_broker_id")
    .selectAll("agents")
    .select([
      "projects.name as project_name",
      "projects.owner_id as project_owner_id",
      "projects.visibility as project_visibility",
      "runtime_brokers.name as runtime_broker_name",
      likelyRuntime.as("likely_runtime"),
    ]);
