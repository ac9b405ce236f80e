import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultJson, DefaultTime, Nullable, NullableJson, NullableTime, Time } from "./columnTypes.ts";

/** Rows of what must happen at runtime brokers, messages and operations, and of its way there (design section 5). */

export type MessageState = "pending" | "delivering" | "delivered" | "failed";

export interface MessagesTable {
  id: Uuid;
  seq: Generated<string>;
  project_id: Uuid;
  agent_id: Nullable<Uuid>;
  runtime_broker_id: Nullable<Uuid>;
  sender: string;
  sender_id: Nullable<Uuid>;
  outside_sender_id: Nullable<string>;
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

export interface IntentTables {
  messages: MessagesTable;
  broker_dispatch: BrokerDispatchTable;
  trace_hops: TraceHopsTable;
}
