import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { uuidArray } from "./uuidArray.ts";

/** A nonce of a request whose signature is good. */
export interface UsedNonce {
  readonly runtimeBrokerId: Uuid;
  readonly nonce: string;
}

/**
 * Remembers nonces of requests whose signatures are good. For each, in their order: false when it was seen before, on
 * whichever replica or earlier in the list; that request is a replay.
 */
export const recordNonces = async (db: Db, used: readonly UsedNonce[]): Promise<readonly boolean[]> => {
  // In the order of the key: of two replicas that insert the same ones neither waits for the other in a circle.
  const { rows } = await sql<UsedNonce>`
    insert into seen_nonces (runtime_broker_id, nonce)
    select distinct t.id, t.nonce from unnest(${uuidArray(used.map((u) => u.runtimeBrokerId))}::uuid[],
      ${used.map((u) => u.nonce)}::text[]) as t(id, nonce) order by t.id, t.nonce
    on conflict do nothing returning runtime_broker_id as "runtimeBrokerId", nonce`.execute(db);
  const fresh = new Set(rows.map(keyOf));
  return used.map((u) => fresh.delete(keyOf(u)));
};

const keyOf = (u: UsedNonce): string => `${u.runtimeBrokerId} ${u.nonce}`;

/** Forgets at most `limit` nonces older than any signature that is still accepted. */
export const deleteOldNonces = async (db: Db, olderThanMs: number, limit: number): Promise<number> => {
  // By their place in the table, which a row keeps that is never updated: the key would have to be looked up again.
  const result = await sql`
    delete from seen_nonces where ctid = any(array(
      select ctid from seen_nonces where seen_at < now() - ${olderThanMs} * interval '1 millisecond'
      order by seen_at limit ${limit} for update skip locked))`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
};
