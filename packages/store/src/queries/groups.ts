import type { Uuid } from "@rootstock/protocol";
import { type Insertable, type RawBuilder, type Selectable, sql, type Updateable } from "kysely";
import type { GroupRole, GroupsTable, GroupType } from "../accessTables.ts";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { isCheckViolation } from "../databaseErrors.ts";
import type { Visibility } from "../tables.ts";
import { transaction } from "../tx.ts";
import { all, type Condition, type Page, type Position } from "./keyset.ts";

/** Groups of people, agents and other groups (spec/03 5.5, 6.2). */

export type GroupRow = Selectable<GroupsTable>;

/** A group with what of its project decides about it. */
export interface GroupView extends GroupRow {
  readonly project_owner_id: Uuid | null;
  /** Null for a group of no project. */
  readonly project_visibility: Visibility | null;
}

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

/** The rows after `position` of a list that is oldest first. */
const later = (table: string, position: Position | undefined, created = "created"): Condition =>
  position === undefined
    ? sql<boolean>`true`
    : sql<boolean>`(${sql.ref(`${table}.${created}`)}, ${sql.ref(`${table}.id`)}) > (${position.created}, ${position.id}::uuid)`;

const views = (db: Db) =>
  db
    .selectFrom("groups")
    .leftJoin("projects", "projects.id", "groups.project_id")
    .selectAll("groups")
    .select(["projects.owner_id as project_owner_id", "projects.visibility as project_visibility"]);

/** One page of groups, oldest first. */
export const listGroups = (db: Db, filter: GroupFilter, page: Page): Promise<GroupView[]> =>
  views(db)
    .where(conditions(filter))
    .where(later("groups", page.after))
    .orderBy("groups.created")
    .orderBy("groups.id")
    .limit(page.limit)
    .execute();

/** How many groups the filter matches. */
export const countGroups = async (db: Db, filter: GroupFilter): Promise<number> => {
  const row = await db
    .selectFrom("groups")
    .leftJoin("projects", "projects.id", "groups.project_id")
    .where(conditions(filter))
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return row.total;
};

export const groupById = (db: Db, id: Uuid): Promise<GroupView | undefined> =>
  views(db).where("groups.id", "=", id).executeTakeFirst();

export const groupBySlug = (db: Db, slug: string): Promise<GroupView | undefined> =>
  views(db).where("groups.slug", "=", slug).executeTakeFirst();

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

/**
 * Why a member stays as it was: there is none; its role is not any more what was looked at; or nobody else owns the
 * group: of several who go at once, one waits and sees it.
 */
export type MemberRefusal = "none" | "moved" | "last_owner";

/** Does something to a member whose role was `seen`, unless that took the group's last owner away. */
const changingMember = <T>(
  db: Db,
  key: GroupMemberKey,
  roles: { readonly seen: GroupRole; readonly next?: GroupRole },
  work: (tx: Db) => Promise<T>,
): Promise<T | MemberRefusal> =>
  transaction(db, (outer) =>
    audited(outer, async (tx) => {
      await lockGroup(tx, key.groupId);
      const member = await findGroupMember(tx, key);
      if (!member) return "none";
      if (member.role !== roles.seen) return "moved";
      const owned = member.role === "owner" && roles.next !== "owner";
      if (owned && (await countGroupOwners(tx, key.groupId)) === 1) return "last_owner";
      return work(tx);
    }),
  );

/** Removes a member, if its role is still `seen`, and somebody owns the group afterwards. */
export const removeGroupMember = (db: Db, key: GroupMemberKey, seen: GroupRole): Promise<"removed" | MemberRefusal> =>
  changingMember(db, key, { seen }, async (tx) => {
    await tx
      .deleteFrom("group_memberships")
      .where("group_id", "=", key.groupId)
      .where(COLUMN[key.memberType], "=", key.memberId)
      .execute();
    return "removed" as const;
  });

/** Gives a member another role, if its own is still `seen`, and somebody owns the group afterwards. */
export const changeGroupMemberRole = (
  db: Db,
  key: GroupMemberKey,
  { seen, role }: { readonly seen: GroupRole; readonly role: GroupRole },
): Promise<"changed" | MemberRefusal> =>
  changingMember(db, key, { seen, next: role }, async (tx) => {
    await tx
      .updateTable("group_memberships")
      .set({ role })
      .where("group_id", "=", key.groupId)
      .where(COLUMN[key.memberType], "=", key.memberId)
      .execute();
    return "changed" as const;
  });

/** A member in a list, with where it stands there. */
export interface ListedMember extends GroupMember, Position {}

const members = (groupId: Uuid, only: Condition, limit: number) => sql<ListedMember>`
  select m.id, m.added_at as created, m.group_id as "groupId",
      case when m.user_id is not null then 'user' when m.agent_id is not null then 'agent' else 'group' end as "memberType",
      coalesce(m.user_id, m.agent_id, m.child_group_id) as "memberId",
      m.role, m.added_at as "addedAt", m.added_by as "addedBy",
      coalesce(nullif(u.display_name, ''), u.email, a.name, g.name, '') as "displayName"
    from group_memberships m
    left join users u on u.id = m.user_id
    left join agents a on a.id = m.agent_id
    left join groups g on g.id = m.child_group_id
   where m.group_id = ${groupId} and ${only}
   order by m.added_at, m.id limit ${limit}`;

/** One page of a group's members, those first that were added first. Of a project's agents' group, its agents. */
export const listGroupMembers = async (db: Db, group: GroupRow, page: Page): Promise<readonly ListedMember[]> => {
  if (group.group_type === "explicit")
    return (await members(group.id, later("m", page.after, "added_at"), page.limit).execute(db)).rows;
  const { rows } = await sql<ListedMember>`
    select agents.id, agents.created, ${group.id}::uuid as "groupId", 'agent' as "memberType", agents.id as "memberId",
        'member' as role, null::timestamptz as "addedAt", 'system' as "addedBy", name as "displayName"
      from agents where project_id = ${group.project_id} and deleted_at is null and ${later("agents", page.after)}
     order by agents.created, agents.id limit ${page.limit}`.execute(db);
  return rows;
};

/** How many members a group has. */
export const countGroupMembers = async (db: Db, group: GroupRow): Promise<number> => {
  const { rows } = await (group.group_type === "explicit"
    ? sql<{ n: number }>`select count(*)::int as n from group_memberships where group_id = ${group.id}`
    : sql<{ n: number }>`select count(*)::int as n from agents
        where project_id = ${group.project_id} and deleted_at is null`
  ).execute(db);
  return rows[0]?.n ?? 0;
};

/** A member that was added; undefined when it is none. */
export const findGroupMember = async (db: Db, key: GroupMemberKey): Promise<GroupMember | undefined> => {
  const column = sql.ref(`m.${COLUMN[key.memberType]}`);
  const { rows } = await members(key.groupId, sql<boolean>`${column} = ${key.memberId}`, 1).execute(db);
  return rows[0];
};

/** How many owners a group has. */
const countGroupOwners = async (tx: Db, groupId: Uuid): Promise<number> => {
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
  /** Or its place in a statement. */
  readonly id: Uuid | RawBuilder<Uuid>;
}

/**
 * Joins what `rows` finds for each row before it. The planner may not turn that around: of tables that it has no statistics
 * of, or that it believes to be small, it would read all rows and compare them.
 */
export const forEach = (rows: RawBuilder<unknown>) => sql`cross join lateral (${rows} offset 0)`;

/**
 * `column = value` of what an index finds few of. Said twice, so that the planner expects next to nothing: without statistics
 * it expects one row in two hundred of each, and for what that comes to over nested groups it makes room for millions,
 * which took twenty times as long as the look-ups.
 */
export const isOf = (column: RawBuilder<unknown>, value: unknown) =>
  sql`${column} = ${value} and (${column} = ${value}) is true`;

/** `(id, role)` of the groups that a principal is in itself; of an agent, the group of its project's agents, without a role. */
export const directGroups = ({ type, id }: GroupedPrincipal) =>
  type === "user"
    ? sql`select m.group_id as id, m.role from group_memberships m where ${isOf(sql`m.user_id`, id)}`
    : sql`select m.group_id as id, m.role from group_memberships m where ${isOf(sql`m.agent_id`, id)}
          union all
          select g.id, null from groups g
           where g.project_id = (select a.project_id from agents a where a.id = ${id}) and g.group_type = 'project_agents'`;

/** Those groups, and every group that contains one of them, as `<name> (id)` of a `with recursive`. */
export const effectiveGroupIds = (name: string, direct: RawBuilder<unknown>) => sql`
  ${sql.ref(name)} (id) as (
    ${direct}
    union
    select m.group_id from ${sql.ref(name)} e
     ${forEach(sql`select m.group_id from group_memberships m where ${isOf(sql`m.child_group_id`, sql`e.id`)}`)} m)`;

/** Every group that a person or an agent is in, directly or through others, oldest first (spec/03 5.5). */
export const effectiveGroups = async (
  db: Db,
  principal: GroupedPrincipal,
): Promise<readonly (GroupRow & { readonly direct: boolean })[]> => {
  const direct = sql`select own.id from (${directGroups(principal)}) own`;
  const { rows } = await sql<GroupRow & { readonly direct: boolean }>`
    with recursive ${effectiveGroupIds("effective", direct)}
    select groups.*, groups.id in (${direct}) as direct
      from groups where id in (select id from effective) order by created, id`.execute(db);
  return rows;
};
