import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { UsersTable } from "../tables.ts";

export type UserRow = Selectable<UsersTable>;

export interface NewUser {
  readonly id: Uuid;
  readonly email: string;
  readonly displayName: string;
  readonly role: "admin" | "member" | "viewer";
}

/** What a person's credentials are held against. */
export interface UserStanding {
  readonly id: Uuid;
  readonly email: string;
  readonly displayName: string;
  readonly role: UserRow["role"];
  readonly status: UserRow["status"];
  /** Tokens of an older version are void. */
  readonly tokenVersion: number;
}

/** An address as it is stored: trimmed, in lower case. Letters beyond ASCII stay what they are: one that folds to ours is no ours. */
export const normalizedEmail = (email: string): string =>
  email.trim().replace(/[A-Z]/g, (letter) => letter.toLowerCase());

/** The user with this id. */
export const userById = (db: Db, id: Uuid): Promise<UserRow | undefined> =>
  db.selectFrom("users").selectAll().where("id", "=", id).executeTakeFirst();

/** The user with this e-mail address, compared as addresses are stored: trimmed, in lower case. */
export const userByEmail = (db: Db, email: string): Promise<UserRow | undefined> =>
  db.selectFrom("users").selectAll().where("email", "=", normalizedEmail(email)).executeTakeFirst();

/**
 * Users whose address or display name is `text`, without regard to case: at most `limit`, so that a caller sees
 * whether a name means one person. A text with an `@` is an address: everybody calls themselves what they like, and nobody
 * must get, or keep from somebody, what is sent to an address by taking it for a name.
 */
export const usersNamed = (db: Db, text: string, limit: number): Promise<UserRow[]> =>
  db
    .selectFrom("users")
    .selectAll()
    .where(
      text.includes("@")
        ? sql<boolean>`email = ${normalizedEmail(text)}`
        : sql<boolean>`lower(display_name) = lower(${text.trim()})`,
    )
    .orderBy("created")
    .orderBy("id")
    .limit(limit)
    .execute();

/** Makes sure that this user exists; one that does keeps what it is. Safe when several replicas do it at once. */
export const ensureUser = (db: Db, user: NewUser): Promise<void> =>
  audited(db, async (tx) => {
    await tx
      .insertInto("users")
      .values({ id: user.id, email: normalizedEmail(user.email), display_name: user.displayName, role: user.role })
      .onConflict((c) => c.doNothing())
      .execute();
  });

/** Undefined when there is no such user. */
export const findUserStanding = (db: Db, id: Uuid): Promise<UserStanding | undefined> =>
  db
    .selectFrom("users")
    .select(["id", "email", "display_name as displayName", "role", "status", "token_version as tokenVersion"])
    .where("id", "=", id)
    .executeTakeFirst();

/** Makes everything void that this user was given so far, wherever it is shown. False: there is no such user. */
export const voidUserTokens = (db: Db, id: Uuid): Promise<boolean> =>
  audited(db, async (tx) => {
    const done = await tx
      .updateTable("users")
      .set({ token_version: sql<number>`token_version + 1` })
      .where("id", "=", id)
      .executeTakeFirst();
    return done.numUpdatedRows > 0n;
  });

/** Notes that the user has called, unless that was noted within so many seconds. */
export const noteUserSeen = async (db: Db, id: Uuid, freshSeconds: number): Promise<void> => {
  await sql`
    update users set last_seen = now()
     where id = ${id} and coalesce(last_seen < now() - make_interval(secs => ${freshSeconds}::float8), true)`.execute(
    db,
  );
};
