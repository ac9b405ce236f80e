import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** What an agent's token is held against. */
export interface AgentStanding {
  readonly projectId: Uuid;
  readonly tokenVersion: number;
  readonly deleted: boolean;
}

/** Undefined when there is no such agent. */
export const findAgentStanding = (db: Db, agentId: Uuid): Promise<AgentStanding | undefined> =>
  db
    .selectFrom("agents")
    .select(["project_id as projectId", "token_version as tokenVersion"])
    .select(sql<boolean>`deleted_at is not null`.as("deleted"))
    .where("id", "=", agentId)
    .executeTakeFirst();
