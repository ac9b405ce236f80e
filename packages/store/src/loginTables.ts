import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultTime, Nullable, NullableTime, Time } from "./columnTypes.ts";

/** Rows of the ways in which programs get tokens for a person. */

export interface LoginCodesTable {
  code_hash: Buffer;
  user_id: Uuid;
  token_version: number;
  callback_url: string;
  sign_in_id: Nullable<Uuid>;
  created: DefaultTime;
  expires_at: Time;
}

export interface DeviceLoginsTable {
  device_code_hash: Buffer;
  user_code_hash: Buffer;
  address: string;
  program: string;
  state: Generated<"pending" | "approved" | "denied" | "redeemed">;
  user_id: Nullable<Uuid>;
  token_version: Nullable<number>;
  sign_in_id: Nullable<Uuid>;
  interval_seconds: number;
  polled_at: NullableTime;
  created: DefaultTime;
  expires_at: Time;
}

export interface UserCodeTriesTable {
  user_id: Uuid;
  tries: number;
  since: DefaultTime;
}

export interface LoginTables {
  login_codes: LoginCodesTable;
  device_logins: DeviceLoginsTable;
  user_code_tries: UserCodeTriesTable;
}
