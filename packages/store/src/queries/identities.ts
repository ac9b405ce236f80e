import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { normalizedEmail, type UserRow } from "./users.ts";

/** Who a person is at those who vouch for them, and the accounts that belong to them. */

export interface IdentityKey {
  readonly issuer: string;
  readonly subject: string;
}

/** The user whom the issuer's subject is, locked until the transaction ends. */
export const lockUserByIdentity = (tx: Db, key: IdentityKey): Promise<UserRow | undefined> =>
  tx
    .selectFrom("users")
    .innerJoin("user_identities", "user_identities.user_id", "users.id")
    .selectAll("users")
    .where("user_identities.issuer", "=", key.issuer)
    .where("user_identities.subject", "=", key.subject)
    .forUpdate("users")
    .executeTakeFirst();

/** The user with this address, locked until the transaction ends. */
export const lockUserByEmail = (tx: Db, email: string): Promise<UserRow | undefined> =>
  tx.selectFrom("users").selectAll().where("email", "=", normalizedEmail(email)).forUpdate().executeTakeFirst();

/** A user with this address; undefined when there is one already. Waits for others who make the same. */
export const insertSignedInUser = (
  tx: Db,
  user: {
    readonly id: Uuid;
    readonly email: string;
    readonly displayName: string;
    readonly avatarUrl: string | null;
    readonly role: UserRow["role"];
  },
): Promise<UserRow | undefined> =>
  audited(tx, (own) =>
    own
      .insertInto("users")
      .values({
        id: user.id,
        email: normalizedEmail(user.email),
        display_name: user.displayName,
        avatar_url: user.avatarUrl,
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
 * Makes the identity the user's, or notes that it was shown again. False: this user is somebody else at the same issuer, or
 * had this address once and has another by now, whoever has it today. To be called with the user's row locked.
 */
export const linkIdentity = (
  tx: Db,
  identity: IdentityKey & { readonly userId: Uuid; readonly email: string },
): Promise<boolean> =>
  audited(tx, async (own) => {
    const { rows } = await sql`
    insert into user_identities (issuer, subject, user_id, email)
    select ${identity.issuer}, ${identity.subject}, ${identity.userId}, ${normalizedEmail(identity.email)}
     where not exists (select from user_identities
                        where user_id = ${identity.userId} and issuer = ${identity.issuer}
                          and subject <> ${identity.subject})
       and (not exists (select from user_identities where user_id = ${identity.userId})
         or exists (select from user_identities
                     where user_id = ${identity.userId}
                       and ((issuer = ${identity.issuer} and subject = ${identity.subject})
                         or email = ${normalizedEmail(identity.email)})))
    on conflict (issuer, subject) do update set email = excluded.email, last_login = now()
     where user_identities.user_id = excluded.user_id
    returning 1`.execute(own);
    return rows.length > 0;
  });

/** Notes a sign-in: its time, a name and a picture where there was none, and a role that is higher. Never a lower one. */
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
      display_name: sql<string>`case when display_name = '' then ${seen.displayName} else display_name end`,
      avatar_url: sql<string | null>`coalesce(avatar_url, ${seen.avatarUrl})`,
      ...(seen.promote && { role: "admin" as const }),
    })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
