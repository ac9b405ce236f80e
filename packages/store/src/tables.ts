import type { Phase, Uuid } from "@rootstock/protocol";
import type { ColumnType, Generated } from "kysely";
import type { AccessTables } from "./accessTables.ts";
import type { AuditTables } from "./auditTables.ts";
import type { AuthResetTables } from "./authResetTables.ts";
import type { DefaultJson, DefaultTime, Json, Nullable, NullableJson, NullableTime, Time } from "./columnTypes.ts";
import type { LoginTables } from "./loginTables.ts";
import type { MaintenanceTables } from "./maintenanceTables.ts";
import type { RateTables } from "./rateTables.ts";

/** Row types, one per table, as the driver reads them. `schemaDrift.test.ts` holds them against the migrated catalog. */

export type Labels = Readonly<Record<string, string>>;

export interface UsersTable {
  id: Uuid;
  email: string;
  display_name: Generated<string>;
  avatar_url: Nullable<string>;
  role: Generated<"admin" | "member" | "viewer">;
  status: Generated<"active" | "suspended">;
  preferences: NullableJson<Record<string, unknown>>;
  created: DefaultTime;
  last_login: NullableTime;
  last_seen: NullableTime;
  token_version: Generated<number>;
}

export interface UserIdentitiesTable {
  issuer: string;
  subject: string;
  user_id: Uuid;
  email: string;
  created: DefaultTime;
  last_login: DefaultTime;
}

export interface InvitesTable {
  id: Uuid;
  code_hash: Buffer;
  code_prefix: string;
  max_uses: number;
  use_count: Generated<number>;
  expires_at: Time;
  revoked: Generated<boolean>;
  created_by: Nullable<Uuid>;
  note: Generated<string>;
  created: DefaultTime;
  last_used: NullableTime;
}

export interface AllowListTable {
  id: Uuid;
  email: string;
  note: Generated<string>;
  added_by: Nullable<Uuid>;
  invite_id: Nullable<Uuid>;
  created: DefaultTime;
}

export interface SignInsTable {
  id: Uuid;
  user_id: Uuid;
  client: "web" | "cli" | "api";
  generation: Generated<number>;
  rotated_at: DefaultTime;
  ended_at: NullableTime;
  created: DefaultTime;
  expires_at: Time;
}

export interface AccessTokensTable {
  id: Uuid;
  user_id: Uuid;
  project_id: Uuid;
  name: string;
  prefix: string;
  token_hash: Buffer;
  scopes: readonly string[];
  expires_at: Time;
  last_used: NullableTime;
  revoked_at: NullableTime;
  created: DefaultTime;
}

export interface SharedDir {
  readonly name: string;
  readonly read_only?: boolean;
  readonly in_workspace?: boolean;
}

export type Visibility = "private" | "team" | "public";

export interface ProjectsTable {
  id: Uuid;
  name: string;
  slug: string;
  git_remote: Nullable<string>;
  default_runtime_broker_id: Nullable<Uuid>;
  labels: DefaultJson<Labels>;
  annotations: DefaultJson<Labels>;
  shared_dirs: DefaultJson<readonly SharedDir[]>;
  visibility: Generated<Visibility>;
  created_by: Nullable<Uuid>;
  owner_id: Nullable<Uuid>;
  created: DefaultTime;
  updated: DefaultTime;
}

export type RuntimeBrokerStatus = "online" | "offline" | "degraded";

export interface RuntimeBrokersTable {
  id: Uuid;
  name: string;
  slug: string;
  version: Generated<string>;
  status: Generated<RuntimeBrokerStatus>;
  capabilities: NullableJson<Record<string, unknown>>;
  profiles: DefaultJson<readonly Record<string, unknown>[]>;
  labels: DefaultJson<Labels>;
  annotations: DefaultJson<Labels>;
  endpoint: Nullable<string>;
  auto_provide: Generated<boolean>;
  created_by: Nullable<Uuid>;
  connected_hub_id: Nullable<Uuid>;
  connected_session_id: Nullable<Uuid>;
  connected_at: NullableTime;
  disconnected_at: NullableTime;
  created: DefaultTime;
  updated: DefaultTime;
}

export interface RuntimeBrokerHeartbeatsTable {
  runtime_broker_id: Uuid;
  last_heartbeat: Time;
}

export interface ProjectProvidersTable {
  id: Generated<Uuid>;
  project_id: Uuid;
  runtime_broker_id: Uuid;
  local_path: Nullable<string>;
  linked_by: Nullable<string>;
  linked_at: DefaultTime;
}

export interface BrokerSecretsTable {
  id: Uuid;
  runtime_broker_id: Uuid;
  secret: Buffer;
  algorithm: Generated<string>;
  status: Generated<"active" | "deprecated" | "revoked">;
  created: DefaultTime;
  rotated_at: NullableTime;
  expires_at: NullableTime;
}

export interface BrokerJoinTokensTable {
  runtime_broker_id: Uuid;
  token_hash: string;
  expires_at: Time;
  created_by: Nullable<Uuid>;
  created: DefaultTime;
}

export interface SeenNoncesTable {
  runtime_broker_id: Uuid;
  nonce: string;
  seen_at: DefaultTime;
}

/** What an agent was created with (spec/02 2.3, appliedConfig). Never holds a resolved secret. */
export interface AppliedConfig {
  readonly image?: string;
  readonly harnessConfig?: string;
  readonly harnessAuth?: string;
  readonly env?: Labels;
  readonly model?: string;
  readonly profile?: string;
  readonly task?: string;
  readonly attach?: boolean;
  readonly branch?: string;
  readonly workspace?: string;
  readonly gitClone?: { readonly url: string; readonly branch?: string; readonly depth?: number };
  readonly creatorName?: string;
  readonly inlineConfig?: Readonly<Record<string, unknown>>;
  readonly noAuth?: boolean;
  readonly gcpIdentity?: {
    readonly metadataMode: "block" | "passthrough" | "assign";
    readonly serviceAccountId?: string;
    readonly serviceAccountEmail?: string;
    readonly projectId?: string;
  };
}

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
  applied_config: DefaultJson<AppliedConfig>;
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

export type MessageState = "pending" | "delivering" | "delivered" | "failed";

export interface MessagesTable {
  id: Uuid;
  seq: Generated<string>;
  project_id: Uuid;
  agent_id: Nullable<Uuid>;
  runtime_broker_id: Nullable<Uuid>;
  sender: string;
  sender_id: Nullable<Uuid>;
  recipient: string;
  recipient_id: Nullable<Uuid>;
  msg: string;
  type: Generated<string>;
  urgent: Generated<boolean>;
  broadcasted: Generated<boolean>;
  read: Generated<boolean>;
  group_id: Nullable<string>;
  channel: Nullable<string>;
  thread_id: Nullable<string>;
  envelope: DefaultJson<Readonly<Record<string, unknown>>>;
  bulky: Generated<boolean>;
  interrupt: Generated<boolean>;
  accepted_by: Nullable<Uuid>;
  state: Nullable<MessageState>;
  hold_reason: Nullable<string>;
  claimed_by: Nullable<Uuid>;
  claim_session: Nullable<Uuid>;
  claimed_at: NullableTime;
  attempts: Generated<number>;
  error: Nullable<string>;
  traceparent: Nullable<string>;
  created_by: Nullable<Uuid>;
  created: DefaultTime;
  dispatched_at: NullableTime;
}

export type DispatchOp =
  | "create"
  | "start"
  | "stop"
  | "restart"
  | "suspend"
  | "resume"
  | "delete"
  | "check_prompt"
  | "finalize_env"
  | "reset_auth";

export type DispatchState = "pending" | "in_progress" | "done" | "failed" | "expired";

export interface BrokerDispatchTable {
  id: Uuid;
  seq: Generated<string>;
  runtime_broker_id: Uuid;
  agent_id: Nullable<Uuid>;
  agent_slug: Generated<string>;
  project_id: Nullable<Uuid>;
  op: DispatchOp;
  args: DefaultJson<Readonly<Record<string, unknown>>>;
  state: Generated<DispatchState>;
  result: NullableJson<Readonly<Record<string, unknown>>>;
  error: Nullable<string>;
  claimed_by: Nullable<Uuid>;
  claim_session: Nullable<Uuid>;
  attempts: Generated<number>;
  max_attempts: Generated<number>;
  deadline_at: Time;
  traceparent: Nullable<string>;
  created_by: Nullable<Uuid>;
  created_at: DefaultTime;
  updated_at: DefaultTime;
  accepted_by: Nullable<Uuid>;
  claimed_at: NullableTime;
  hold_reason: Nullable<string>;
}

export interface TraceHopsTable {
  id: Generated<string>;
  subject_id: Uuid;
  event: "given_back" | "failed";
  replica_id: Nullable<Uuid>;
  runtime_broker_id: Nullable<Uuid>;
  session_id: Nullable<Uuid>;
  reason: string;
  waited_for: Nullable<string>;
  attempt: Nullable<number>;
  claimed_at: NullableTime;
  at: DefaultTime;
  times: Generated<number>;
  last_at: DefaultTime;
}

export interface ReplicaNamesTable {
  instance_id: Uuid;
  name: string;
  version: string;
  since: DefaultTime;
  gone_at: NullableTime;
}

export interface HubReplicasTable {
  instance_id: Uuid;
  lock_key: ColumnType<string, string | bigint, string | bigint>;
  name: string;
  internal_url: Nullable<string>;
  version: string;
  state: Generated<"serving" | "draining">;
  started_at: DefaultTime;
  last_seen: DefaultTime;
}

export interface SweepsTable {
  name: string;
  next_at: DefaultTime;
}

export interface IdempotencyKeysTable {
  principal: string;
  key: string;
  method: string;
  path: string;
  body_hash: Buffer;
  operation: Json<Readonly<Record<string, unknown>>>;
  status: Nullable<number>;
  answer: Nullable<Buffer>;
  created: DefaultTime;
  expires_at: Time;
}

export interface ChangeLogTable {
  id: Generated<string>;
  project_id: Nullable<Uuid>;
  agent_id: Nullable<Uuid>;
  owner_user_id: Nullable<Uuid>;
  entity: string;
  entity_id: Uuid;
  op: "I" | "U" | "D";
  changed: Generated<readonly string[]>;
  payload: DefaultJson<Readonly<Record<string, unknown>>>;
  at: DefaultTime;
  tx: Generated<string>;
}

export interface FeedMetaTable {
  one: Generated<boolean>;
  epoch: Generated<Uuid>;
  pruned_tx: Generated<string>;
  fingerprint: Generated<string>;
}

export interface StreamFramesTable {
  id: Generated<string>;
  to_replica: Uuid;
  from_replica: Uuid;
  stream_id: Uuid;
  seq: number;
  kind: string;
  body: Buffer;
  created: DefaultTime;
}

export interface Tables extends LoginTables, AccessTables, AuditTables, AuthResetTables, RateTables, MaintenanceTables {
  users: UsersTable;
  user_identities: UserIdentitiesTable;
  invites: InvitesTable;
  allow_list: AllowListTable;
  sign_ins: SignInsTable;
  access_tokens: AccessTokensTable;
  projects: ProjectsTable;
  runtime_brokers: RuntimeBrokersTable;
  runtime_broker_heartbeats: RuntimeBrokerHeartbeatsTable;
  project_providers: ProjectProvidersTable;
  broker_secrets: BrokerSecretsTable;
  broker_join_tokens: BrokerJoinTokensTable;
  seen_nonces: SeenNoncesTable;
  agents: AgentsTable;
  agent_kept_values: AgentKeptValuesTable;
  notification_subscriptions: NotificationSubscriptionsTable;
  messages: MessagesTable;
  broker_dispatch: BrokerDispatchTable;
  trace_hops: TraceHopsTable;
  replica_names: ReplicaNamesTable;
  hub_replicas: HubReplicasTable;
  sweeps: SweepsTable;
  idempotency_keys: IdempotencyKeysTable;
  change_log: ChangeLogTable;
  feed_meta: FeedMetaTable;
  stream_frames: StreamFramesTable;
}
