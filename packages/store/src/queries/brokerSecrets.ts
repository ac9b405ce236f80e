import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** How runtime brokers prove who they are: sealed secrets, and join tokens as hashes. */

export interface BrokerSecretRow {
  readonly id: Uuid;
  readonly secret: Buffer;
  /** `deprecated` still proves its holder; `revoked` is kept only to sign towards a machine that has not noticed yet. */
  readonly status: "active" | "deprecated" | "revoked";
}

/** Every secret of a runtime broker whose time is not over, newest first. */
export const listUnexpiredSecrets = (db: Db, runtimeBrokerId: Uuid): Promise<readonly BrokerSecretRow[]> =>
  db
    .selectFrom("broker_secrets")
    .select(["id", "secret", "status"])
    .where("runtime_broker_id", "=", runtimeBrokerId)
    .where((eb) => eb.or([eb("status", "=", "active"), eb("expires_at", ">", sql<Date>`now()`)]))
    .orderBy("created", "desc")
    .orderBy("id")
    .execute();

export interface SecretReplacement {
  readonly id: Uuid;
  readonly runtimeBrokerId: Uuid;
  readonly secret: Buffer;
  /** What becomes of the active one, and for how long it is kept. */
  readonly old: { readonly status: "deprecated" | "revoked"; readonly keptMs: number };
}

/**
 * Puts a new active secret in the place of the present one. Those deprecated before follow the present one into
 * revocation, so that at most two prove anything. Inside a transaction that holds the runtime broker's row.
 */
export const replaceSecret = async (db: Db, r: SecretReplacement): Promise<Date> => {
  const until = sql<Date>`now() + ${r.old.keptMs} * interval '1 millisecond'`;
  await db
    .updateTable("broker_secrets")
    .set({ status: "revoked" })
    .where("runtime_broker_id", "=", r.runtimeBrokerId)
    .where("status", "=", "deprecated")
    .execute();
  await db
    .updateTable("broker_secrets")
    .set({ status: r.old.status, rotated_at: sql`now()`, expires_at: until })
    .where("runtime_broker_id", "=", r.runtimeBrokerId)
    .where("status", "=", "active")
    .execute();
  const { created } = await db
    .insertInto("broker_secrets")
    .values({ id: r.id, runtime_broker_id: r.runtimeBrokerId, secret: r.secret })
    .returning("created")
    .executeTakeFirstOrThrow();
  return created;
};

/** Deletes secrets whose time is over. */
export const deleteExpiredSecrets = async (db: Db): Promise<number> => {
  const result = await db
    .deleteFrom("broker_secrets")
    .where("status", "<>", "active")
    .where("expires_at", "<", sql<Date>`now()`)
    .executeTakeFirst();
  return Number(result.numDeletedRows);
};

/** Locks a runtime broker's row until the transaction ends. False when there is none. */
export const lockRuntimeBroker = async (db: Db, id: Uuid): Promise<boolean> =>
  (await db.selectFrom("runtime_brokers").select("id").where("id", "=", id).forNoKeyUpdate().executeTakeFirst()) !==
  undefined;

export interface NewJoinToken {
  readonly runtimeBrokerId: Uuid;
  /** Standard base64 of SHA-256 of the whole token. */
  readonly tokenHash: string;
  readonly ttlMs: number;
  readonly createdBy: Uuid;
}

/** Issues a join token in the place of an earlier one. `replaced`: an unexpired one is worthless now. */
export const upsertJoinToken = async (
  db: Db,
  token: NewJoinToken,
): Promise<{ readonly expiresAt: Date; readonly replaced: boolean }> => {
  const before = await db
    .deleteFrom("broker_join_tokens")
    .where("runtime_broker_id", "=", token.runtimeBrokerId)
    .returning(sql<boolean>`expires_at > now()`.as("live"))
    .executeTakeFirst();
  const { expires_at } = await db
    .insertInto("broker_join_tokens")
    .values({
      runtime_broker_id: token.runtimeBrokerId,
      token_hash: token.tokenHash,
      expires_at: sql`now() + ${token.ttlMs} * interval '1 millisecond'`,
      created_by: token.createdBy,
    })
    .returning("expires_at")
    .executeTakeFirstOrThrow();
  return { expiresAt: expires_at, replaced: before?.live ?? false };
};

/** Uses a join token up: of two calls with one token, one gets it. */
export const takeJoinToken = async (
  db: Db,
  runtimeBrokerId: Uuid,
  tokenHash: string,
): Promise<"valid" | "expired" | "unknown"> => {
  const row = await db
    .deleteFrom("broker_join_tokens")
    .where("runtime_broker_id", "=", runtimeBrokerId)
    .where("token_hash", "=", tokenHash)
    .returning(sql<boolean>`expires_at > now()`.as("live"))
    .executeTakeFirst();
  if (!row) return "unknown";
  return row.live ? "valid" : "expired";
};

/** Deletes join tokens whose time is over. */
export const deleteExpiredJoinTokens = async (db: Db): Promise<number> => {
  const result = await db
    .deleteFrom("broker_join_tokens")
    .where("expires_at", "<", sql<Date>`now()`)
    .executeTakeFirst();
  return Number(result.numDeletedRows);
};
