import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { UserIdentitiesTable } from "../tables.ts";
import { transaction } from "../tx.ts";
import { normalizedEmail, type UserRow } from "./users.ts";

/**
 * Who a person is at those who vouch for them, and the accounts that belong to them. Whoever changes what opens an account
 * holds its row locked: what was read of it under the lock is so until the transaction ends.
 */

export type IdentityRow = Selectable<UserIdentitiesTable>;

export interface IdentityKey {
  readonly issuer: string;
  readonly subject: string;
}

/** One person by every name under which their issuer is, or was, stored. */
export interface IdentityNames {
  readonly issuers: readonly string[];
  readonly subject: string;
}

/** The user whom the issuer's subject is, locked until the transaction ends. Under two names: the one known for longer. */
export const lockUserByIdentity = (tx: Db, { issuers, subject }: IdentityNames): Promise<UserRow | undefined> =>
  tx
    .selectFrom("users")
    .innerJoin("user_identities", "user_identities.user_id", "users.id")
    .selectAll("users")
    .where("user_identities.issuer", "in", issuers)
    .where("user_identities.subject", "=", subject)
    .orderBy("user_identities.created")
    .orderBy("user_identities.issuer")
    .limit(1)
    .forUpdate("users")
    .executeTakeFirst();

/** Whether somebody has the identity. */
export const isIdentityTaken = async (db: Db, { issuers, subject }: IdentityNames): Promise<boolean> => {
  const found = await db
    .selectFrom("user_identities")
    .select("id")
    .where("issuer", "in", issuers)
    .where("subject", "=", subject)
    .executeTakeFirst();
  return found !== undefined;
};

/** The user with this id, locked until the transaction ends. */
export const lockUser = (tx: Db, id: Uuid): Promise<UserRow | undefined> =>
  tx.selectFrom("users").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();

/** All that opens an account, the oldest first. */
export const identitiesOf = (db: Db, userId: Uuid): Promise<IdentityRow[]> =>
  db.selectFrom("user_identities").selectAll().where("user_id", "=", userId).orderBy("created").orderBy("id").execute();

/** The user with this address, locked until the transaction ends. */
export const lockUserByEmail = (tx: Db, email: string): Promise<UserRow | undefined> =>
  tx.selectFrom("users").selectAll().where("email", "=", normalizedEmail(email)).forUpdate().executeTakeFirst();

/** A user with this address, whose first sign-in is yet to be noted; undefined when there is one already. Waits for others who make the same. */
export const insertSignedInUser = (
  tx: Db,
  user: {
    readonly id: Uuid;
    readonly email: string;
    readonly role: UserRow["role"];
  },
): Promise<UserRow | undefined> =>
  audited(tx, (own) =>
    own
      .insertInto("users")
      .values({
        id: user.id,
        email: normalizedEmail(user.email),
        role: user.role,
      })
      .onConflict((c) => c.column("email").doNothing())
      .returningAll()
      .executeTakeFirst(),
  );

/** A user with this address and role, whatever they were before. */
export const upsertTestUser = (
  db: Db,
  user: { readonly id: Uuid; readonly email: string; readonly displayName: string; readonly role: UserRow["role"] },
): Promise<UserRow> =>
  audited(db, (tx) =>
    tx
      .insertInto("users")
      .values({ id: user.id, email: normalizedEmail(user.email), display_name: user.displayName, role: user.role })
      .onConflict((c) =>
        c
          .column("email")
          .doUpdateSet({ display_name: user.displayName, role: user.role, last_login: sql<Date>`now()` }),
      )
      .returningAll()
      .executeTakeFirstOrThrow(),
  );

/**
 * Makes the identity the user's. False: it is somebody's already, or the user is somebody else at the same issuer. To be
 * called with the user's row locked.
 */
export const insertIdentity = (
  tx: Db,
  { issuer, subject, userId, email }: IdentityKey & { readonly userId: Uuid; readonly email: string },
): Promise<boolean> =>
  audited(tx, async (own) => {
    const done = await own
      .insertInto("user_identities")
      .values({ issuer, subject, user_id: userId, email: normalizedEmail(email) })
      .onConflict((c) => c.doNothing())
      .executeTakeFirst();
    return done.numInsertedOrUpdatedRows === 1n;
  });

/** Notes that the user has shown the identity again, with the address that it has now. False: it is not theirs. */
export const noteIdentity = async (
  tx: Db,
  { issuers, subject }: IdentityNames,
  { userId, email }: { readonly userId: Uuid; readonly email: string },
): Promise<boolean> => {
  const done = await tx
    .updateTable("user_identities")
    .set({ email: normalizedEmail(email), last_login: sql<Date>`now()` })
    .where("user_id", "=", userId)
    .where("issuer", "in", issuers)
    .where("subject", "=", subject)
    .executeTakeFirst();
  return done.numUpdatedRows > 0n;
};

/**
 * Gives the account another address, if none of its identities has its present one any more and nobody else has the other.
 * Undefined: it stays. Throws a unique violation when somebody else takes the address at this moment.
 */
export const followAddress = (tx: Db, id: Uuid, email: string): Promise<UserRow | undefined> =>
  audited(tx, async (own) => {
    const address = normalizedEmail(email);
    const { rows } = await sql<UserRow>`
      update users set email = ${address}
       where id = ${id} and email <> ${address}
         and not exists (select from user_identities i where i.user_id = users.id and i.email = users.email)
         and not exists (select from users other where other.email = ${address})
      returning *`.execute(own);
    return rows[0];
  });

/** How the removal of an identity ended. `last`: by nothing else could its owner come. */
export type IdentityRemoved =
  | { readonly kind: "removed"; readonly user: UserRow; readonly identity: IdentityRow }
  | { readonly kind: "gone" }
  | { readonly kind: "last" };

/** What is known of issuers beyond their names. */
export interface IdentityRules {
  readonly namesOf: (key: IdentityKey) => IdentityNames;
  /** Whether somebody can come by such an identity as things are configured. */
  readonly canCome: (key: IdentityKey) => boolean;
}

/**
 * Takes an identity from its account, under all of its names, and makes void what signing in has given: nobody knows which
 * of it came by that identity. `evenLast`: whoever is vouched for with the account's address next takes the account.
 */
export const removeIdentity = (
  db: Db,
  { userId, id, evenLast }: { readonly userId: Uuid; readonly id: Uuid; readonly evenLast: boolean },
  { namesOf, canCome }: IdentityRules,
): Promise<IdentityRemoved> =>
  transaction(db, (outer) =>
    audited(outer, async (tx): Promise<IdentityRemoved> => {
      if (!(await lockUser(tx, userId))) return { kind: "gone" };
      const all = await identitiesOf(tx, userId);
      const identity = all.find((row) => row.id === id);
      if (!identity) return { kind: "gone" };
      const { issuers, subject } = namesOf(identity);
      const same = all.filter((row) => row.subject === subject && issuers.includes(row.issuer));
      const left = all.filter((row) => !same.includes(row));
      // One by which nobody can come any more may go, as long as it is not the only thing that keeps others out.
      const isLast = left.length === 0 || (canCome(identity) && !left.some(canCome));
      if (isLast && !evenLast) return { kind: "last" };
      const ids = same.map((row) => row.id);
      await tx.deleteFrom("user_identities").where("id", "in", ids).execute();
      const user = await tx
        .updateTable("users")
        .set({ token_version: sql<number>`token_version + 1` })
        .where("id", "=", userId)
        .returningAll()
        .executeTakeFirstOrThrow();
      return { kind: "removed", user, identity };
    }),
  );

/**
 * Notes a sign-in: its time, a name and a picture where there was none, and a role that is higher. Never a lower one. A name
 * that is somebody else's is not taken: at many providers people call themselves what they like, and agents are told names.
 */
export const recordSignIn = (
  tx: Db,
  id: Uuid,
  seen: { readonly displayName: string; readonly avatarUrl: string | null; readonly promote: boolean },
): Promise<UserRow> => (seen.promote ? audited(tx, (own) => record(own, id, seen)) : record(tx, id, seen));

const record = (
  tx: Db,
  id: Uuid,
  seen: { readonly displayName: string; readonly avatarUrl: string | null; readonly promote: boolean },
): Promise<UserRow> =>
  tx
    .updateTable("users")
    .set({
      last_login: sql<Date>`now()`,
      display_name: sql<string>`case when display_name = '' and not exists (
          select from users other where lower(other.display_name) = lower(${seen.displayName}) and other.id <> ${id})
        then ${seen.displayName} else display_name end`,
      avatar_url: sql<string | null>`coalesce(avatar_url, ${seen.avatarUrl})`,
      ...(seen.promote && { role: "admin" as const }),
    })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
