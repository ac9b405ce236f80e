import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { uuidArray } from "./uuidArray.ts";

/** How runtime brokers prove who they are: sealed secrets, and join tokens as hashes. */

/**
 * How long a secret that proves nothing any more is kept, to sign towards a machine that has not noticed: an unmodified
 * runtime broker verifies with its former secret until it restarts (spec/01 1.5).
 */
const keptToSign = sql`interval '7 days'`;

export interface BrokerSecretRow {
  readonly id: Uuid;
  readonly secret: Buffer;
  /** Whether it proves its holder. */
  readonly proves: boolean;
  /** When it ceases to, where it has been replaced. */
  readonly until: Date | null;
}

/** The secrets of these runtime brokers that prove them, and those that still sign towards them; newest first. */
export const listSecrets = async (
  db: Db,
  runtimeBrokerIds: readonly Uuid[],
): Promise<readonly (BrokerSecretRow & { readonly runtimeBrokerId: Uuid })[]> => {
  const { rows } = await sql<BrokerSecretRow & { readonly runtimeBrokerId: Uuid }>`
    select id, runtime_broker_id as "runtimeBrokerId", secret,
        status = 'active' or (status = 'deprecated' and expires_at > now()) as proves,
        case when status <> 'active' then expires_at end as until
    from broker_secrets
    where runtime_broker_id = any(${uuidArray(runtimeBrokerIds)}::uuid[])
      and (status = 'active' or expires_at > now() - ${keptToSign})
    order by created desc, id`.execute(db);
  return rows;
};

export interface SecretReplacement {
  readonly id: Uuid;
  readonly runtimeBrokerId: Uuid;
  readonly secret: Buffer;
  /** How long the present one goes on proving its holder, in milliseconds. */
  readonly graceMs: number;
}

/**
 * Puts a new active secret in the place of the present one. Any before that one proves nothing from now on, so that at
 * most two do. Inside a transaction that holds the runtime broker's row. Returns when.
 */
export const replaceSecret = async (db: Db, r: SecretReplacement): Promise<Date> => {
  await sql`
    update broker_secrets set rotated_at = coalesce(rotated_at, now()),
      expires_at = case status when 'active' then now() + ${r.graceMs} * interval '1 millisecond'
        else least(expires_at, now()) end,
      status = case status when 'active' then 'deprecated' else status end
    where runtime_broker_id = ${r.runtimeBrokerId}`.execute(db);
  const { created } = await db
    .insertInto("broker_secrets")
    .values({ id: r.id, runtime_broker_id: r.runtimeBrokerId, secret: r.secret })
    .returning("created")
    .executeTakeFirstOrThrow();
  return created;
};

/** Deletes secrets that neither prove anything nor are kept to sign. */
export const deleteExpiredSecrets = async (db: Db): Promise<number> => {
  const result = await sql`
    delete from broker_secrets where status <> 'active' and expires_at < now() - ${keptToSign}`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
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
export const upsertJoinToken = (
  db: Db,
  token: NewJoinToken,
): Promise<{ readonly expiresAt: Date; readonly replaced: boolean }> =>
  audited(db, async (tx) => {
    const before = await tx
      .deleteFrom("broker_join_tokens")
      .where("runtime_broker_id", "=", token.runtimeBrokerId)
      .returning(sql<boolean>`expires_at > now()`.as("live"))
      .executeTakeFirst();
    const { expires_at } = await tx
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
  });

/** Uses a join token up: of two calls with one token, one gets it. That of somebody who is suspended lets nobody join. */
export const takeJoinToken = async (
  db: Db,
  runtimeBrokerId: Uuid,
  tokenHash: string,
): Promise<"valid" | "expired" | "unknown"> => {
  const row = await db
    .deleteFrom("broker_join_tokens")
    .where("runtime_broker_id", "=", runtimeBrokerId)
    .where("token_hash", "=", tokenHash)
    .where(
      sql<boolean>`not exists (select from users u where u.id = broker_join_tokens.created_by and u.status <> 'active')`,
    )
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
