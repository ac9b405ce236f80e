import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { endSignIn } from "./signIns.ts";

/** Codes that a redirect carries to a program on the person's own machine (spec/03 3.1, 3.2). */

/** A code for the user as they stand now; it is good for `lifetimeSeconds`. */
export const insertLoginCode = async (
  db: Db,
  code: {
    readonly hash: Buffer;
    readonly userId: Uuid;
    readonly tokenVersion: number;
    readonly callbackUrl: string;
    readonly lifetimeSeconds: number;
  },
): Promise<void> => {
  await db
    .insertInto("login_codes")
    .values({
      code_hash: code.hash,
      user_id: code.userId,
      token_version: code.tokenVersion,
      callback_url: code.callbackUrl,
      expires_at: sql<Date>`now() + make_interval(secs => ${code.lifetimeSeconds})`,
    })
    .execute();
};

export type CodeExchange =
  | { readonly kind: "redeemed"; readonly userId: Uuid }
  /** No such code, for another address, too late, or its user has signed out everywhere since. */
  | { readonly kind: "refused" }
  /** It was exchanged before: somebody has a copy. The sign-in that it gave has ended by this. */
  | { readonly kind: "reused"; readonly userId: Uuid; readonly signInId: Uuid };

/**
 * Exchanges a code for the sign-in `signInId`, once. To be called in the transaction that inserts the sign-in: who shows
 * the code again waits for it, and ends it.
 */
export const redeemLoginCode = (
  db: Db,
  code: { readonly hash: Buffer; readonly callbackUrl: string; readonly signInId: Uuid },
): Promise<CodeExchange> =>
  transaction(db, async (tx): Promise<CodeExchange> => {
    const { rows } = await sql<{ readonly userId: Uuid }>`
      update login_codes c set sign_in_id = ${code.signInId} from users u
       where c.code_hash = ${code.hash} and c.callback_url = ${code.callbackUrl} and c.sign_in_id is null
         and c.expires_at > now() and u.id = c.user_id and u.token_version = c.token_version
      returning c.user_id as "userId"`.execute(tx);
    const [redeemed] = rows;
    if (redeemed) return { kind: "redeemed", userId: redeemed.userId };
    const used = await tx
      .selectFrom("login_codes")
      .select(["user_id", "sign_in_id"])
      .where("code_hash", "=", code.hash)
      .executeTakeFirst();
    if (!used?.sign_in_id) return { kind: "refused" };
    await endSignIn(tx, used.sign_in_id);
    return { kind: "reused", userId: used.user_id, signInId: used.sign_in_id };
  });

/** How long codes are known beyond their end: one that comes back takes away what it gave. */
const keptAfter = sql`interval '1 day'`;

/** Forgets at most `limit` codes, those that people typed and what they mistyped included. */
export const deleteOldLogins = async (db: Db, limit: number): Promise<number> => {
  const { rows } = await sql<{ readonly n: number }>`
    with codes as (delete from login_codes where code_hash in (
        select code_hash from login_codes where expires_at < now() - ${keptAfter} limit ${limit} for update skip locked)
      returning 1),
    devices as (delete from device_logins where device_code_hash in (
        select device_code_hash from device_logins where expires_at < now() - ${keptAfter} limit ${limit}
        for update skip locked) returning 1),
    tries as (delete from user_code_tries where user_id in (
        select user_id from user_code_tries where since < now() - ${keptAfter} limit ${limit} for update skip locked)
      returning 1)
    select ((select count(*) from codes) + (select count(*) from devices) + (select count(*) from tries))::int as n`.execute(
    db,
  );
  return rows[0]?.n ?? 0;
};
