import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultTime, Nullable, NullableJson, NullableTime, Time } from "./columnTypes.ts";

/** Rows of people: their accounts, how they came in, and what they hold to prove themselves. */

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
  id: Generated<Uuid>;
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

export interface PeopleTables {
  users: UsersTable;
  user_identities: UserIdentitiesTable;
  invites: InvitesTable;
  allow_list: AllowListTable;
  sign_ins: SignInsTable;
  access_tokens: AccessTokensTable;
}
