import type { Uuid } from "@rootstock/protocol";
import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { GroupRole, GroupsTable, GroupType } from "../accessTables.ts";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { isCheckViolation } from "../databaseErrors.ts";
import { all, type Condition, type Page, type Position } from "./keyset.ts";

/** Groups of people, agents and other groups (spec/03 5.5, 6.2). */

export type GroupRow = Selectable<GroupsTable>;

export type GroupMemberType = "user" | "agent" | "group";

/** Names one member of a group. */
export interface GroupMemberKey {
  readonly groupId: Uuid;
  readonly memberType: GroupMemberType;
  readonly memberId: Uuid;
}

export interface GroupMember extends GroupMemberKey {
  readonly role: GroupRole;
  /** Null for agents of a project's own group, which nobody has added. */
  readonly addedAt: Date | null;
  readonly addedBy: string | null;
  readonly displayName: string;
}

/** What a list of groups is narrowed to; all given fields must hold. */
export interface GroupFilter {
  readonly ownerId?: Uuid | undefined;
  /** Groups that are members of this one. */
  readonly parentId?: Uuid | undefined;
  readonly groupType?: GroupType | undefined;
  readonly projectId?: Uuid | undefined;
  /** Which of them the caller may read. */
  readonly readable?: Condition | undefined;
}

const conditions = (f: GroupFilter): Condition => {
  const list: Condition[] = [];
  if (f.readable) list.push(f.readable);
  if (f.ownerId !== undefined) list.push(sql<boolean>`groups.owner_id = ${f.ownerId}`);
  if (f.groupType !== undefined) list.push(sql<boolean>`groups.group_type = ${f.groupType}`);
  if (f.projectId !== undefined) list.push(sql<boolean>`groups.project_id = ${f.projectId}`);
  if (f.parentId !== undefined)
    list.push(
      sql<boolean>`groups.id in (select m.child_group_id from group_memberships m where m.group_id = ${f.parentId})`,
    );
  return all(list);
};

const later = (position: Position | undefined): Condition =>
  position === undefined
    ? sql<boolean>`true`
    : sql<boolean>`(groups.created, groups.id) > (${position.created}, ${position.id}::uuid)`;

/** One page of groups, oldest first. */
export const listGroups = (db: Db, filter: GroupFilter, page: Page): Promise<GroupRow[]> =>
  db
    .selectFrom("groups")
    .selectAll()
    .where(conditions(filter))
    .where(later(page.after))
    .orderBy("created")
    .orderBy("id")
    .limit(page.limit)
    .execute();

/** How many groups the filter matches. */
export const countGroups = async (db: Db, filter: GroupFilter): Promise<number> => {
  const row = await db
    .selectFrom("groups")
    .where(conditions(filter))
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return row.total;
};

export const groupById = (db: Db, id: Uuid): Promise<GroupRow | undefined> =>
  db.selectFrom("groups").selectAll().where("id", "=", id).executeTakeFirst();

export const groupBySlug = (db: Db, slug: string): Promise<GroupRow | undefined> =>
  db.selectFrom("groups").selectAll().where("slug", "=", slug).executeTakeFirst();

/** The group's row, locked until the transaction ends: who changes members in a way that looks at others takes it first. */
export const lockGroup = (tx: Db, id: Uuid): Promise<GroupRow | undefined> =>
  tx.selectFrom("groups").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();

/**
 * Inserts the group; undefined when its slug is taken. Throws a check violation for a slug that begins with `project:`
 * (those are the hub's own), a foreign key one for an unknown owner.
 */
export const insertGroup = (tx: Db, group: Insertable<GroupsTable>): Promise<GroupRow | undefined> =>
  audited(tx, (own) =>
    own
      .insertInto("groups")
      .values(group)
      .onConflict((c) => c.column("slug").doNothing())
      .returningAll()
      .executeTakeFirst(),
  );

export type GroupChange = Pick<Updateable<GroupsTable>, "name" | "description" | "labels" | "annotations" | "owner_id">;

/** Changes the group; undefined when there is none. Throws a foreign key violation for an unknown owner. */
export const changeGroup = (tx: Db, id: Uuid, change: GroupChange): Promise<GroupRow | undefined> =>
  audited(tx, (own) =>
    own
      .updateTable("groups")
      .set({ ...change, updated: sql`now()` })
      .where("id", "=", id)
      .returningAll()
      .executeTakeFirst(),
  );

/** Deletes the group with its memberships, nestings and bindings. False when there was none. */
export const deleteGroup = (tx: Db, id: Uuid): Promise<boolean> =>
  audited(tx, async (own) => {
    const result = await own.deleteFrom("groups").where("id", "=", id).executeTakeFirst();
    return result.numDeletedRows > 0n;
  });

const COLUMN = { user: "user_id", agent: "agent_id", group: "child_group_id" } as const;

/**
 * Adds a member; undefined when it is one already. Throws a foreign key violation for an unknown group or member, and
 * what {@link isGroupCircle} and {@link isFoundGroup} know.
 */
export const addGroupMember = (
  tx: Db,
  member: GroupMemberKey & { readonly role: GroupRole; readonly addedBy: string | null },
): Promise<GroupMemberKey | undefined> =>
  audited(tx, async (own) => {
    const added = await own
      .insertInto("group_memberships")
      .values({
        group_id: member.groupId,
        [COLUMN[member.memberType]]: member.memberId,
        role: member.memberType === "group" ? "member" : member.role,
        added_by: member.addedBy,
      })
      .onConflict((c) => c.doNothing())
      .returning("id")
      .executeTakeFirst();
    const { groupId, memberType, memberId } = member;
    return added && { groupId, memberType, memberId };
  });

/** Whether a group was to be put into itself, directly or through others. Holds however many try at once. */
export const isGroupCircle = (err: unknown): boolean => isCheckViolation(err, "group_memberships_circle");

/** Whether somebody was to be added to a group whose members are found: all agents of a project. */
export const isFoundGroup = (err: unknown): boolean => isCheckViolation(err, "group_memberships_of_found_group");

/** Removes a member. False when it was none. */
export const removeGroupMember = (tx: Db, key: GroupMemberKey): Promise<boolean> =>
  audited(tx, async (own) => {
    const result = await own
      .deleteFrom("group_memberships")
      .where("group_id", "=", key.groupId)
      .where(COLUMN[key.memberType], "=", key.memberId)
      .executeTakeFirst();
    return result.numDeletedRows > 0n;
  });

const members = (groupId: Uuid, only: Condition) => sql<GroupMember>`
  select m.group_id as "groupId",
      case when m.user_id is not null then 'user' when m.agent_id is not null then 'agent' else 'group' end as "memberType",
      coalesce(m.user_id, m.agent_id, m.child_group_id) as "memberId",
      m.role, m.added_at as "addedAt", m.added_by as "addedBy",
      coalesce(nullif(u.display_name, ''), u.email, a.name, g.name, '') as "displayName"
    from group_memberships m
    left join users u on u.id = m.user_id
    left join agents a on a.id = m.agent_id
    left join groups g on g.id = m.child_group_id
   where m.group_id = ${groupId} and ${only}
   order by m.child_group_id is not null, m.added_at, m.id`;

/** The members of a group: people and agents first, groups after them. Of a project's agents' group, its agents. */
export const groupMembers = async (db: Db, group: GroupRow): Promise<readonly GroupMember[]> => {
  if (group.group_type === "explicit") return (await members(group.id, sql<boolean>`true`).execute(db)).rows;
  const { rows } = await sql<GroupMember>`
    select ${group.id}::uuid as "groupId", 'agent' as "memberType", id as "memberId", 'member' as role,
        null::timestamptz as "addedAt", 'system' as "addedBy", name as "displayName"
      from agents where project_id = ${group.project_id} and deleted_at is null
     order by created, id`.execute(db);
  return rows;
};

/** A member that was added; undefined when it is none. */
export const findGroupMember = async (db: Db, key: GroupMemberKey): Promise<GroupMember | undefined> => {
  const column = sql.ref(`m.${COLUMN[key.memberType]}`);
  const { rows } = await members(key.groupId, sql<boolean>`${column} = ${key.memberId}`).execute(db);
  return rows[0];
};

/** How many owners a group has. To be asked with the group's row locked where the last one must stay. */
export const countGroupOwners = async (tx: Db, groupId: Uuid): Promise<number> => {
  const row = await tx
    .selectFrom("group_memberships")
    .where("group_id", "=", groupId)
    .where("role", "=", "owner")
    .select(sql<number>`count(*)::int`.as("n"))
    .executeTakeFirstOrThrow();
  return row.n;
};

/** A person or an agent, whose groups are asked for. */
export interface GroupedPrincipal {
  readonly type: "user" | "agent";
  readonly id: Uuid;
}

/** The groups that a principal is in itself: of an agent, with the group of its project's agents. */
export const directGroupIds = ({ type, id }: GroupedPrincipal) =>
  type === "user"
    ? sql`select m.group_id as id from group_memberships m where m.user_id = ${id}`
    : sql`select m.group_id as id from group_memberships m where m.agent_id = ${id}
          union all
          select g.id from groups g join agents a on a.project_id = g.project_id
           where a.id = ${id} and g.group_type = 'project_agents'`;

/** Those groups, and every group that contains one of them, as `<name> (id)` of a `with recursive`. */
export const effectiveGroupIds = (name: string, direct: ReturnType<typeof sql>) => sql`
  ${sql.ref(name)} (id) as (
    ${direct}
    union
    select m.group_id from group_memberships m join ${sql.ref(name)} e on m.child_group_id = e.id)`;

/** Every group that a person or an agent is in, directly or through others, oldest first (spec/03 5.5). */
export const effectiveGroups = async (
  db: Db,
  principal: GroupedPrincipal,
): Promise<readonly (GroupRow & { readonly direct: boolean })[]> => {
  const { rows } = await sql<GroupRow & { readonly direct: boolean }>`
    with recursive ${effectiveGroupIds("effective", sql`(${directGroupIds(principal)})`)}
    select groups.*, groups.id in (${directGroupIds(principal)}) as direct
      from groups where id in (select id from effective) order by created, id`.execute(db);
  return rows;
};
