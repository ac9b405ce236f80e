import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/**
 * Remembers a nonce of a request whose signature is good. False when it was seen before, on whichever replica: the
 * request is a replay.
 */
export const recordNonce = async (db: Db, runtimeBrokerId: Uuid, nonce: string): Promise<boolean> => {
  const result = await db
    .insertInto("seen_nonces")
    .values({ runtime_broker_id: runtimeBrokerId, nonce })
    .onConflict((c) => c.doNothing())
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
};

/** Forgets at most `limit` nonces older than any signature that is still accepted. */
export const deleteOldNonces = async (db: Db, olderThanMs: number, limit: number): Promise<number> => {
  const result = await sql`
    delete from seen_nonces where (runtime_broker_id, nonce) in (
      select runtime_broker_id, nonce from seen_nonces where seen_at < now() - ${olderThanMs} * interval '1 millisecond'
      order by seen_at limit ${limit} for update skip locked)`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
};
