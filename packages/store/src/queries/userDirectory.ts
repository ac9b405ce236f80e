import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { all, type Condition, type Page, type Position } from "./keyset.ts";
import type { UserRow } from "./users.ts";

/** The people of a hub as those who manage them see them (spec/03 6.1). */

export interface UserFilter {
  /** Whom the caller may see. */
  readonly readable?: Condition | undefined;
  readonly role?: UserRow["role"] | undefined;
  readonly status?: UserRow["status"] | undefined;
  /** Part of an address or a name, without regard to case. */
  readonly search?: string | undefined;
}

export interface UserOrder {
  readonly by: "created" | "name" | "lastSeen";
  readonly descending: boolean;
}

/** A user and the name by which a list of names sorts them. */
export interface ListedUser extends UserRow {
  readonly sort_name: string;
}

const matching = ({ readable, role, status, search }: UserFilter): Condition => {
  const list: Condition[] = [];
  if (readable !== undefined) list.push(readable);
  if (role !== undefined) list.push(sql<boolean>`role = ${role}`);
  if (status !== undefined) list.push(sql<boolean>`status = ${status}`);
  if (search !== undefined)
    list.push(sql<boolean>`(position(lower(${search}) in email) > 0
      or position(lower(${search}) in lower(display_name)) > 0)`);
  return all(list);
};

/** Who was never seen comes before everybody who was. */
const NEVER = new Date(0);

const KEYS: Readonly<Record<UserOrder["by"], RawBuilder<unknown>>> = {
  created: sql`created`,
  name: sql`lower(display_name)`,
  lastSeen: sql`coalesce(last_seen, ${NEVER})`,
};

/** Where a user stands in a list of this order. */
export const userPosition = ({ by }: UserOrder, user: ListedUser): Position => {
  if (by === "name") return { created: user.created, id: user.id, name: user.sort_name };
  return { created: by === "created" ? user.created : (user.last_seen ?? NEVER), id: user.id };
};

/** One page of users. */
export const listUsers = async (
  db: Db,
  filter: UserFilter,
  order: UserOrder,
  page: Page,
): Promise<readonly ListedUser[]> => {
  const key = KEYS[order.by];
  const direction = order.descending ? sql`desc` : sql`asc`;
  const after = page.after && {
    key: order.by === "name" ? (page.after.name ?? "") : page.after.created,
    id: page.after.id,
  };
  const rest = after
    ? sql<boolean>`(${key}, id) ${order.descending ? sql`<` : sql`>`} (${after.key}, ${after.id}::uuid)`
    : sql<boolean>`true`;
  const { rows } = await sql<ListedUser>`
    select *, lower(display_name) as sort_name from users where ${all([matching(filter), rest])}
     order by ${key} ${direction}, id ${direction} limit ${page.limit}`.execute(db);
  return rows;
};

/** How many users match. */
export const countUsers = async (db: Db, filter: UserFilter): Promise<number> => {
  const { n } = await db
    .selectFrom("users")
    .select(sql<number>`count(*)::int`.as("n"))
    .where(matching(filter))
    .executeTakeFirstOrThrow();
  return n;
};

/** What may be changed of a user; what is not given stays. */
export interface UserChange {
  readonly displayName?: string | undefined;
  readonly role?: UserRow["role"] | undefined;
  readonly status?: UserRow["status"] | undefined;
  readonly preferences?: Readonly<Record<string, unknown>> | undefined;
}

/** How a change of a user ended. `last_admin`: nobody would be left who may undo it. */
export type UserChanged =
  | { readonly kind: "changed"; readonly user: UserRow }
  | { readonly kind: "gone" }
  | { readonly kind: "last_admin" };

/** Changes a user. The tokens of whoever loses rights by it are void: a trigger sees to that. */
export const changeUser = (db: Db, id: Uuid, change: UserChange): Promise<UserChanged> =>
  transaction(db, async (tx): Promise<UserChanged> => {
    const disarms = (change.role ?? "admin") !== "admin" || (change.status ?? "active") !== "active";
    if (disarms && (await isLastAdmin(tx, id))) return { kind: "last_admin" };
    const user = await audited(tx, (own) =>
      own
        .updateTable("users")
        .set({
          // A statement must set something.
          display_name: change.displayName ?? sql<string>`display_name`,
          ...(change.role && { role: change.role }),
          ...(change.status && { status: change.status }),
          ...(change.preferences && { preferences: JSON.stringify(change.preferences) }),
        })
        .where("id", "=", id)
        .returningAll()
        .executeTakeFirst(),
    );
    return user ? { kind: "changed", user } : { kind: "gone" };
  });

/**
 * Deletes a user with their sign-ins, tokens and identities. What they owned stays, without an owner: admins see to it.
 * Join tokens that they gave out let nobody join any more.
 */
export const deleteUser = (db: Db, id: Uuid): Promise<"deleted" | "gone" | "last_admin"> =>
  transaction(db, (outer) =>
    audited(outer, async (tx) => {
      if (await isLastAdmin(tx, id)) return "last_admin";
      const done = await tx.deleteFrom("users").where("id", "=", id).executeTakeFirst();
      if (done.numDeletedRows === 0n) return "gone";
      await tx.updateTable("projects").set({ owner_id: null }).where("owner_id", "=", id).execute();
      await tx.updateTable("agents").set({ owner_id: null }).where("owner_id", "=", id).execute();
      await tx.deleteFrom("notification_subscriptions").where("subscriber_id", "=", id).execute();
      await tx.deleteFrom("broker_join_tokens").where("created_by", "=", id).execute();
      return "deleted";
    }),
  );

/**
 * Whether the user is an active admin and nobody else is. Locks all of them until the transaction ends: of two who would
 * each leave the other as the last, one waits, and then sees that it is so.
 */
const isLastAdmin = async (tx: Db, id: Uuid): Promise<boolean> => {
  const admins = await tx
    .selectFrom("users")
    .select("id")
    .where("role", "=", "admin")
    .where("status", "=", "active")
    .orderBy("id")
    .forUpdate()
    .execute();
  return admins.length === 1 && admins[0]?.id === id;
};
