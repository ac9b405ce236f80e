import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultJson, DefaultTime, Labels, Nullable, NullableJson, NullableTime, Time } from "./columnTypes.ts";

/** Rows of runtime brokers, their heartbeats and their credentials. */

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

export interface RuntimeBrokerTables {
  runtime_brokers: RuntimeBrokersTable;
  runtime_broker_heartbeats: RuntimeBrokerHeartbeatsTable;
  broker_secrets: BrokerSecretsTable;
  broker_join_tokens: BrokerJoinTokensTable;
  seen_nonces: SeenNoncesTable;
}
