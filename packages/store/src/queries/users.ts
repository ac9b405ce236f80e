import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import type { UsersTable } from "../tables.ts";

export type UserRow = Selectable<UsersTable>;

export interface NewUser {
  readonly id: Uuid;
  readonly email: string;
  readonly displayName: string;
  readonly role: "admin" | "member" | "viewer";
}

const normalized = (email: string): string => email.trim().toLowerCase();

/** The user with this id. */
export const userById = (db: Db, id: Uuid): Promise<UserRow | undefined> =>
  db.selectFrom("users").selectAll().where("id", "=", id).executeTakeFirst();

/** The user with this e-mail address, compared as addresses are stored: trimmed, in lower case. */
export const userByEmail = (db: Db, email: string): Promise<UserRow | undefined> =>
  db.selectFrom("users").selectAll().where("email", "=", normalized(email)).executeTakeFirst();

/**
 * Users whose address or display name is `text`, without regard to case: at most `limit`, so that a caller sees
 * whether a name means one person.
 */
export const usersNamed = (db: Db, text: string, limit: number): Promise<UserRow[]> =>
  db
    .selectFrom("users")
    .selectAll()
    .where(sql<boolean>`(email = ${normalized(text)} or lower(display_name) = ${normalized(text)})`)
    .orderBy("created")
    .orderBy("id")
    .limit(limit)
    .execute();

/** Makes sure that this user exists; one that does keeps what it is. Safe when several replicas do it at once. */
export const ensureUser = async (db: Db, user: NewUser): Promise<void> => {
  await db
    .insertInto("users")
    .values({ id: user.id, email: normalized(user.email), display_name: user.displayName, role: user.role })
    .onConflict((c) => c.doNothing())
    .execute();
};
