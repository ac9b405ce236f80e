import { HubError, isStorable, notFound, parseUuid } from "@rootstock/protocol";
import { type Db, type GroupView, groupById, groupBySlug } from "@rootstock/store";
import type { Principal, UserPrincipal } from "../auth/index.ts";
import { demandedOf } from "./does.ts";
import { demand, groupResource, may } from "./rights.ts";
import type { Asking } from "./route.ts";

/** The group with this id or slug; none of a name that the database could not even look for. */
export const findGroup = async (db: Db, name: string): Promise<GroupView | undefined> => {
  const id = parseUuid(name);
  if (id !== undefined) return groupById(db, id);
  return isStorable(name) ? groupBySlug(db, name) : undefined;
};

/** The group of `:groupId`. Throws 404 when the caller may not read it, 403 when it may not do what the route does. */
export const groupOf = async (db: Db, call: Asking): Promise<GroupView> => {
  const group = await findGroup(db, call.params.groupId ?? "");
  if (!group || !(await may(call.principal, "read", groupResource(group)))) throw notFound("Group");
  await demand(call.principal, demandedOf(call.does, "group"), groupResource(group));
  return group;
};

/** Who calls a route for users. Throws 403 for anybody else. */
export const userOf = (principal: Principal): UserPrincipal => {
  if (principal.kind !== "user") throw new HubError("forbidden", "only users may do this");
  return principal;
};
