import { HubError, isStorable, parseUuid } from "@rootstock/protocol";
import { type Db, findGroupMember, type GroupRole, type GroupView, groupById, groupBySlug } from "@rootstock/store";
import type { Principal, UserPrincipal } from "../auth/index.ts";
import { demandedOf } from "./does.ts";
import { absent, demandReadAnd, groupResource, may, readable } from "./rights.ts";
import type { Asking } from "./route.ts";

/** The group with this id or slug; none of a name that the database could not even look for. */
export const findGroup = async (db: Db, name: string): Promise<GroupView | undefined> => {
  const id = parseUuid(name);
  if (id !== undefined) return groupById(db, id);
  return isStorable(name) ? groupBySlug(db, name) : undefined;
};

/** The same, if the principal may read it. */
export const findReadableGroup = async (db: Db, principal: Principal, name: string): Promise<GroupView | undefined> => {
  const group = await findGroup(db, name);
  return group && (await may(principal, "read", groupResource(group))) ? group : undefined;
};

/** The same, named in a body. Throws `unknown` unless there is one that the principal may read. */
export const namedGroup = async (db: Db, principal: Principal, name: string, unknown: HubError): Promise<GroupView> =>
  readable(principal, await findGroup(db, name), groupResource, unknown);

/** The group of `:groupId`. Throws 404 when the caller may not read it, 403 when it may not do what the route does. */
export const groupOf = async (db: Db, call: Asking): Promise<GroupView> => {
  const group = await findGroup(db, call.params.groupId ?? "");
  if (!group) throw await absent(call.principal, "Group");
  await demandReadAnd(call.principal, demandedOf(call.does, "group"), groupResource(group), "Group");
  return group;
};

/** Who calls a route for users. Throws 403 for anybody else. */
export const userOf = (principal: Principal): UserPrincipal => {
  if (principal.kind !== "user") throw new HubError("forbidden", "only users may do this");
  return principal;
};

/**
 * Who fills or changes a group must not rise above themselves in it: owners and admins are made and unmade by owners alone,
 * members by admins too (spec/03 6.2). Throws 403.
 */
export const demandRank = async (
  db: Db,
  call: Pick<Asking, "principal">,
  group: GroupView,
  role: GroupRole,
): Promise<void> => {
  const user = userOf(call.principal);
  if (user.role === "admin" || user.id === group.owner_id || user.id === group.project_owner_id) return;
  const own = await findGroupMember(db, { groupId: group.id, memberType: "user", memberId: user.id });
  if (own?.role === "owner" || (own?.role === "admin" && role === "member")) return;
  throw new HubError(
    "forbidden",
    `only ${role === "member" ? "owners and admins" : "owners"} of the group may do this`,
  );
};
