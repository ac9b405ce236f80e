import { type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import type { IdempotencyKeysTable } from "../tables.ts";

/** Keys of calls that must not run twice, kept 24 hours per principal (issue: `Idempotency-Key`). */

export type IdempotencyRow = Selectable<IdempotencyKeysTable>;

const KEPT_HOURS = 24;

/**
 * Claims a key in the transaction that does what the call asks. False when it is taken: a concurrent claim waits here
 * until the other transaction has ended.
 */
export const claimIdempotencyKey = async (
  db: Db,
  k: {
    readonly principal: string;
    readonly key: string;
    readonly method: string;
    readonly path: string;
    readonly bodyHash: Buffer;
  },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    insert into idempotency_keys as k (principal, key, method, path, body_hash, operation, expires_at)
    values (${k.principal}, ${k.key}, ${k.method}, ${k.path}, ${k.bodyHash}, '{}', now() + make_interval(hours => ${KEPT_HOURS}))
    on conflict (principal, key) do update set method = excluded.method, path = excluded.path,
        body_hash = excluded.body_hash, operation = '{}', status = null, answer = null, created = now(),
        expires_at = excluded.expires_at
      where k.expires_at < now()`.execute(db);
  return numAffectedRows === 1n;
};

/** Writes beside the key what the call set in motion. */
export const setIdempotentOperation = async (
  db: Db,
  p: { readonly principal: string; readonly key: string; readonly operation: Readonly<Record<string, unknown>> },
): Promise<void> => {
  await db
    .updateTable("idempotency_keys")
    .set({ operation: JSON.stringify(p.operation) })
    .where("principal", "=", p.principal)
    .where("key", "=", p.key)
    .execute();
};

/** How long a refusal is remembered: longer than a call may be under way before it claims its key. */
const REFUSED_SECONDS = 120;
const REFUSED = { refused: true };

/**
 * Remembers that a call with this key was refused, so that the same call, still on its way elsewhere, does not run after
 * its caller has heard no. False when the key is taken: that call was accepted, and the refusal must not be told. Waits
 * for one that is being accepted now.
 */
export const refuseIdempotencyKey = async (
  db: Db,
  k: {
    readonly principal: string;
    readonly key: string;
    readonly method: string;
    readonly path: string;
    readonly bodyHash: Buffer;
  },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    insert into idempotency_keys as k (principal, key, method, path, body_hash, operation, expires_at)
    values (${k.principal}, ${k.key}, ${k.method}, ${k.path}, ${k.bodyHash}, ${JSON.stringify(REFUSED)},
      now() + make_interval(secs => ${REFUSED_SECONDS}))
    on conflict (principal, key) do update set expires_at = excluded.expires_at
      where k.operation = ${JSON.stringify(REFUSED)}`.execute(db);
  return numAffectedRows === 1n;
};

/** Whether this is no call's key, only a refusal that is remembered. */
export const isRefusedKey = (row: IdempotencyRow): boolean => row.operation.refused === true;

/** Forgets a refusal: whoever repeats the call after it may be accepted. */
export const forgetRefusedKey = async (
  db: Db,
  p: { readonly principal: string; readonly key: string },
): Promise<void> => {
  await sql`delete from idempotency_keys where principal = ${p.principal} and key = ${p.key}
    and operation = ${JSON.stringify(REFUSED)}`.execute(db);
};

/** The key's row; undefined when it is free. */
export const getIdempotencyKey = (
  db: Db,
  p: { readonly principal: string; readonly key: string },
): Promise<IdempotencyRow | undefined> =>
  db
    .selectFrom("idempotency_keys")
    .selectAll()
    .where("principal", "=", p.principal)
    .where("key", "=", p.key)
    .executeTakeFirst();

/** Keeps the answer; the first one wins, so that every repetition gets the same. */
export const keepIdempotentAnswer = async (
  db: Db,
  p: { readonly principal: string; readonly key: string; readonly status: number; readonly answer: Buffer },
): Promise<boolean> => {
  const result = await db
    .updateTable("idempotency_keys")
    .set({ status: p.status, answer: p.answer })
    .where("principal", "=", p.principal)
    .where("key", "=", p.key)
    .where("status", "is", null)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
};
