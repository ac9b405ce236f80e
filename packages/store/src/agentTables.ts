import type { Phase, Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultJson, DefaultTime, Json, Labels, Nullable, NullableTime, Visibility } from "./columnTypes.ts";

/** Rows of agents, and of what is kept for them. */

/**
 * What an agent's configuration gives its container: keys and passwords come to it as values like any other, so all of it
 * is kept sealed, in `agent_config_values`.
 */
export interface ConfigValues {
  readonly env?: Labels;
  /** The whole configuration as it was given, `env` in it. */
  readonly inlineConfig?: Readonly<Record<string, unknown>>;
}

/** What an agent was created with (spec/02 2.3, appliedConfig), but for {@link ConfigValues}. */
export interface AppliedConfig {
  readonly image?: string;
  readonly harnessConfig?: string;
  readonly harnessAuth?: string;
  readonly model?: string;
  readonly profile?: string;
  readonly task?: string;
  readonly attach?: boolean;
  readonly branch?: string;
  readonly workspace?: string;
  readonly gitClone?: { readonly url: string; readonly branch?: string; readonly depth?: number };
  readonly creatorName?: string;
  readonly noAuth?: boolean;
  readonly gcpIdentity?: {
    readonly metadataMode: "block" | "passthrough" | "assign";
    readonly serviceAccountId?: string;
    readonly serviceAccountEmail?: string;
    readonly projectId?: string;
  };
  /** There are sealed values; raised when they change, so that the change feed tells of it. Never on the wire. */
  readonly valuesVersion?: number;
}

/** A configuration as it is stored. Releases before 0.3.0 keep its values in it; they are newer than sealed ones. */
export type StoredConfig = AppliedConfig & ConfigValues;

export interface AgentsTable {
  id: Uuid;
  project_id: Uuid;
  slug: string;
  name: string;
  template: Generated<string>;
  runtime_broker_id: Nullable<Uuid>;
  visibility: Generated<Visibility>;
  labels: DefaultJson<Labels>;
  annotations: DefaultJson<Labels>;
  phase: Generated<Phase>;
  activity: Nullable<string>;
  tool_name: Nullable<string>;
  message: Nullable<string>;
  task_summary: Nullable<string>;
  stalled_from_activity: Nullable<string>;
  connection_state: Nullable<string>;
  container_status: Nullable<string>;
  runtime_state: Nullable<string>;
  exit_code: Nullable<number>;
  current_turns: Generated<number>;
  current_model_calls: Generated<number>;
  image: Nullable<string>;
  runtime: Nullable<string>;
  detached: Generated<boolean>;
  web_pty_enabled: Generated<boolean>;
  applied_config: DefaultJson<StoredConfig>;
  created_by: Nullable<Uuid>;
  owner_id: Nullable<Uuid>;
  ancestry: Generated<readonly Uuid[]>;
  token_version: Generated<number>;
  run_id: Nullable<Uuid>;
  launching: Generated<boolean>;
  running_since: NullableTime;
  ready_at: NullableTime;
  started_at: NullableTime;
  last_seen: NullableTime;
  last_activity_event: NullableTime;
  deleted_at: NullableTime;
  state_version: Generated<number>;
  created: DefaultTime;
  updated: DefaultTime;
}

export interface AgentKeptValuesTable {
  agent_id: Uuid;
  key: string;
  value: Buffer;
  updated: DefaultTime;
}

export interface AgentConfigValuesTable {
  agent_id: Uuid;
  name: keyof ConfigValues;
  value: Buffer;
}

export interface NotificationSubscriptionsTable {
  id: Uuid;
  scope: Generated<"agent" | "project">;
  agent_id: Nullable<Uuid>;
  subscriber_type: "agent" | "user";
  subscriber_id: Uuid;
  project_id: Uuid;
  trigger_activities: Json<readonly string[]>;
  created_by: Uuid;
  created: DefaultTime;
}

export interface AgentTables {
  agents: AgentsTable;
  agent_kept_values: AgentKeptValuesTable;
  agent_config_values: AgentConfigValuesTable;
  notification_subscriptions: NotificationSubscriptionsTable;
}
