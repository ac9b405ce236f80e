import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultJson, DefaultTime, Nullable } from "./columnTypes.ts";

export interface AuditLogTable {
  id: Generated<string>;
  at: DefaultTime;
  action: string;
  success: Generated<boolean>;
  reason: Nullable<string>;
  actor_kind: string;
  actor_id: Nullable<Uuid>;
  actor_email: Nullable<string>;
  credential: Nullable<string>;
  credential_id: Nullable<string>;
  address: Nullable<string>;
  user_agent: Nullable<string>;
  request_id: Nullable<string>;
  target_type: string;
  target_id: Nullable<string>;
  target_name: Nullable<string>;
  project_id: Nullable<Uuid>;
  details: DefaultJson<Readonly<Record<string, unknown>>>;
}

/** What was done, and by whom. */
export interface AuditTables {
  audit_log: AuditLogTable;
}
