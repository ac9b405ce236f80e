import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultTime, Nullable, NullableTime } from "./columnTypes.ts";

/** Rows of new tokens for agents. */

export interface AgentTokenVersionsTable {
  agent_id: Uuid;
  issued: number;
}

export interface AuthResetsTable {
  id: Uuid;
  created_by: Nullable<Uuid>;
  created: DefaultTime;
  finished_at: NullableTime;
  traceparent: Nullable<string>;
}

export interface AuthResetAgentsTable {
  reset_id: Uuid;
  agent_id: Uuid;
  name: string;
  dispatch_id: Uuid;
  state: Generated<"pending" | "done" | "failed">;
  error: Nullable<string>;
}

export interface AuthResetTables {
  agent_token_versions: AgentTokenVersionsTable;
  auth_resets: AuthResetsTable;
  auth_reset_agents: AuthResetAgentsTable;
}
