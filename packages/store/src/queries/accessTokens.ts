import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { AccessTokensTable } from "../tables.ts";
import { transaction } from "../tx.ts";
import { after, type Page } from "./keyset.ts";

/** Tokens that people give to programs (spec/03 1.3, 6.7). */

/** A token as its owner sees it: nothing here lets anybody in. */
export type AccessTokenRow = Omit<Selectable<AccessTokensTable>, "token_hash">;

const SHOWN = [
  "id",
  "user_id",
  "project_id",
  "name",
  "prefix",
  "scopes",
  "expires_at",
  "last_used",
  "revoked_at",
  "created",
] as const;

/** A new token; undefined when its owner has `most` already that are not revoked. */
export const insertAccessToken = (
  db: Db,
  token: {
    readonly id: Uuid;
    readonly userId: Uuid;
    readonly projectId: Uuid;
    readonly name: string;
    readonly prefix: string;
    readonly hash: Buffer;
    readonly scopes: readonly string[];
    readonly expiresAt: Date;
    readonly most: number;
  },
): Promise<AccessTokenRow | undefined> =>
  transaction(db, async (tx) => {
    // Two at once must not both be the last one.
    await tx.selectFrom("users").select("id").where("id", "=", token.userId).forUpdate().execute();
    const { n } = await tx
      .selectFrom("access_tokens")
      .select(sql<number>`count(*)::int`.as("n"))
      .where("user_id", "=", token.userId)
      .where("revoked_at", "is", null)
      .executeTakeFirstOrThrow();
    if (n >= token.most) return undefined;
    return audited(tx, (own) =>
      own
        .insertInto("access_tokens")
        .values({
          id: token.id,
          user_id: token.userId,
          project_id: token.projectId,
          name: token.name,
          prefix: token.prefix,
          token_hash: token.hash,
          scopes: [...token.scopes],
          expires_at: token.expiresAt,
        })
        .returning(SHOWN)
        .executeTakeFirstOrThrow(),
    );
  });

/** The token with this hash that is neither revoked nor over. */
export const liveAccessToken = (db: Db, hash: Buffer): Promise<AccessTokenRow | undefined> =>
  db
    .selectFrom("access_tokens")
    .select(SHOWN)
    .where("token_hash", "=", hash)
    .where("revoked_at", "is", null)
    .where(sql<boolean>`expires_at > now()`)
    .executeTakeFirst();

/** Notes that the token was shown now. */
export const touchAccessToken = async (db: Db, id: Uuid): Promise<void> => {
  await db.updateTable("access_tokens").set({ last_used: sql<Date>`now()` }).where("id", "=", id).execute();
};

/** A page of a user's tokens, newest first, those that do not count any more included. */
export const accessTokensOf = (db: Db, userId: Uuid, page: Page): Promise<AccessTokenRow[]> =>
  db
    .selectFrom("access_tokens")
    .select(SHOWN)
    .where("user_id", "=", userId)
    .where(after("access_tokens", page.after))
    .orderBy("created", "desc")
    .orderBy("id", "desc")
    .limit(page.limit)
    .execute();

/** How many tokens a user has, those that do not count any more included. */
export const countAccessTokens = async (db: Db, userId: Uuid): Promise<number> => {
  const { n } = await db
    .selectFrom("access_tokens")
    .select(sql<number>`count(*)::int`.as("n"))
    .where("user_id", "=", userId)
    .executeTakeFirstOrThrow();
  return n;
};

/** One of a user's tokens. */
export const accessTokenOf = (db: Db, userId: Uuid, id: Uuid): Promise<AccessTokenRow | undefined> =>
  db.selectFrom("access_tokens").select(SHOWN).where("user_id", "=", userId).where("id", "=", id).executeTakeFirst();

/** Revokes one of a user's tokens; one that is revoked stays so. False: they have none with this id. */
export const revokeAccessToken = (db: Db, userId: Uuid, id: Uuid): Promise<boolean> =>
  audited(db, async (tx) => {
    const done = await tx
      .updateTable("access_tokens")
      .set({ revoked_at: sql<Date>`coalesce(revoked_at, now())` })
      .where("user_id", "=", userId)
      .where("id", "=", id)
      .executeTakeFirst();
    return done.numUpdatedRows > 0n;
  });

/** Deletes one of a user's tokens. False: they have none with this id. */
export const deleteAccessToken = (db: Db, userId: Uuid, id: Uuid): Promise<boolean> =>
  audited(db, async (tx) => {
    const done = await tx
      .deleteFrom("access_tokens")
      .where("user_id", "=", userId)
      .where("id", "=", id)
      .executeTakeFirst();
    return done.numDeletedRows > 0n;
  });

/** Forgets at most `limit` tokens that were revoked or ran out longer than `maxAgeSeconds` ago. */
export const deleteOldAccessTokens = async (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<number> => {
  const { numAffectedRows } = await sql`
    delete from access_tokens where id in (
      select id from access_tokens
       where least(expires_at, revoked_at) < now() - make_interval(secs => ${p.maxAgeSeconds}::float8)
       limit ${p.limit} for update skip locked)`.execute(db);
  return Number(numAffectedRows ?? 0n);
};
