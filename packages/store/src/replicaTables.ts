import type { Uuid } from "@rootstock/protocol";
import type { ColumnType, Generated } from "kysely";
import type { DefaultJson, DefaultTime, Json, Nullable, NullableTime, Time } from "./columnTypes.ts";

/** Rows that replicas share: who they are, what they have promised, and what they tell each other. */

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

export interface ReplicaNamesTable {
  instance_id: Uuid;
  name: string;
  version: string;
  since: DefaultTime;
  gone_at: NullableTime;
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

export interface FeedUnbrokenTable {
  one: Generated<boolean>;
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

export interface ReplicaTables {
  hub_replicas: HubReplicasTable;
  replica_names: ReplicaNamesTable;
  sweeps: SweepsTable;
  idempotency_keys: IdempotencyKeysTable;
  change_log: ChangeLogTable;
  feed_meta: FeedMetaTable;
  feed_unbroken: FeedUnbrokenTable;
  stream_frames: StreamFramesTable;
}
