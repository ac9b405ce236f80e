import { HubError, invalidField, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import {
  addGroupMember,
  agentById,
  changeGroupMemberRole,
  countGroupMembers,
  type Db,
  findGroupMember,
  type GroupMemberKey,
  type GroupMemberType,
  type GroupRole,
  type GroupView,
  isForeignKeyViolation,
  isFoundGroup,
  isGroupCircle,
  type ListedMember,
  listGroupMembers,
  type MemberRefusal,
  removeGroupMember,
  userByEmail,
  userById,
} from "@rootstock/store";
import { z } from "zod";
import { memberJson, memberReply, pageFields } from "../wire/index.ts";
import { users } from "./access.ts";
import type { ResourceDeps } from "./deps.ts";
import { choice, MAX_NAME } from "./fields.ts";
import { demandRank, groupOf, namedGroup, userOf } from "./groupLookup.ts";
import { listJson, pageQuery } from "./pages.ts";
import { agentResource, readable } from "./rights.ts";
import { type Call, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/** Who is in a group (spec/03 6.2). */

const PATH = "/api/v1/groups/:groupId/members";
/** Clients take what they do not see for absent. */
const SIZES = { usual: 100, max: 1_000, first: 1_000 };

const addBody = z.object({
  memberType: z.enum(["user", "agent", "group"]),
  memberId: z.string().trim().min(1, "memberId is required").max(MAX_NAME),
  role: choice("member", "admin", "owner"),
});

const patchBody = z.object({ role: z.enum(["member", "admin", "owner"]) });

export const groupMemberRoutes = ({ db, changed }: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: users,
    does: { action: "read", on: "group" },
    query: z.object(pageQuery),
    summary: "The members of a group",
    replies: { 200: z.object({ ...pageFields, members: z.array(memberReply) }) },
    handler: async (call) => {
      const group = await groupOf(db, call);
      return json(
        200,
        await listJson<ListedMember>({
          list: "group-members",
          filters: { groupId: group.id },
          given: call.query,
          sizes: SIZES,
          rows: (page) => listGroupMembers(db, group, page),
          position: async () => undefined,
          count: () => countGroupMembers(db, group),
          as: "members",
          toJson: memberJson,
        }),
      );
    },
  }),
  route({
    method: "POST",
    path: PATH,
    access: users,
    does: { action: "addMember", on: "group" },
    body: addBody,
    summary: "Adds a member to a group",
    replies: { 201: memberReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const group = await groupOf(db, call);
      const { memberType, role = "member" } = call.body;
      await demandRank(db, call, group, role);
      const memberId = await idOf(db, call, memberType, call.body.memberId);
      const key: GroupMemberKey = { groupId: group.id, memberType, memberId };
      const added = await add(db, key, role, userOf(call.principal).id);
      if (!added) throw new HubError("conflict", `this ${memberType} is a member of the group already`);
      changed();
      const member = await findGroupMember(db, key);
      if (!member) throw notFound("Member");
      return json(201, memberJson(member));
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/:memberType/:memberId`,
    access: users,
    does: { action: "read", on: "group" },
    summary: "One member of a group",
    replies: { 200: memberReply },
    handler: async (call) => {
      const group = await groupOf(db, call);
      const member = await findGroupMember(db, keyOf(group, call.params));
      if (!member) throw notFound("Member");
      const { displayName: _, ...plain } = memberJson(member);
      return json(200, plain);
    },
  }),
  route({
    method: "PATCH",
    path: `${PATH}/:memberType/:memberId`,
    access: users,
    does: { action: "addMember", on: "group" },
    body: patchBody,
    summary: "Gives a member of a group another role",
    replies: { 200: memberReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const group = await groupOf(db, call);
      const key = keyOf(group, call.params);
      const { role } = call.body;
      const member = await findGroupMember(db, key);
      if (!member) throw notFound("Member");
      // Neither above oneself, nor over those who are.
      await demandRank(db, call, group, member.role);
      await demandRank(db, call, group, role);
      if (key.memberType === "group" && role !== "member")
        throw invalidField("role", "role: groups inside groups are members");
      if (role === member.role) return json(200, memberJson(member));
      const done = await changeGroupMemberRole(db, key, { seen: member.role, role });
      if (done !== "changed") throw refusalOf(done);
      changed();
      return json(200, memberJson({ ...member, role }));
    },
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:memberType/:memberId`,
    access: users,
    does: { action: "removeMember", on: "group" },
    summary: "Takes a member out of a group",
    replies: { 204: NO_BODY },
    refuses: ["conflict"],
    handler: async (call) => {
      const group = await groupOf(db, call);
      const key = keyOf(group, call.params);
      const member = await findGroupMember(db, key);
      if (!member) throw notFound("Member");
      await demandRank(db, call, group, member.role);
      const done = await removeGroupMember(db, key, member.role);
      if (done !== "removed") throw refusalOf(done);
      changed();
      return empty();
    },
  }),
];

const add = async (db: Db, key: GroupMemberKey, role: GroupRole, addedBy: Uuid): Promise<unknown> => {
  try {
    return await addGroupMember(db, { ...key, role, addedBy });
  } catch (err) {
    if (isGroupCircle(err)) throw invalidField("memberId", "memberId: the group would be inside itself");
    if (isFoundGroup(err)) throw new HubError("validation_error", "the members of this group are found, not added");
    if (isForeignKeyViolation(err)) throw unknownMember(key.memberType);
    throw err;
  }
};

/** 404, 400 for the last owner (spec/03 6.2), 409 when somebody else has changed the member meanwhile. */
const refusalOf = (refusal: MemberRefusal): HubError => {
  switch (refusal) {
    case "none":
      return notFound("Member");
    case "last_owner":
      return new HubError("validation_error", "this is the group's last owner: make somebody else an owner first");
    case "moved":
      return new HubError("conflict", "somebody has changed this member's role meanwhile: look at it again");
  }
};

const unknownMember = (type: GroupMemberType): HubError => invalidField("memberId", `memberId: unknown ${type}`);

/**
 * The id of who is named: a person also by their address, a group by its slug. Groups and agents that the caller may not
 * read are not there: to name them would tell that they are, and what they are called. Throws 400.
 */
const idOf = async (
  db: Db,
  { principal }: Pick<Call, "principal">,
  type: GroupMemberType,
  name: string,
): Promise<Uuid> => {
  const id = parseUuid(name);
  const unknown = unknownMember(type);
  switch (type) {
    case "user": {
      const user = await (id ? userById(db, id) : userByEmail(db, name));
      if (!user) throw unknown;
      return user.id;
    }
    case "agent": {
      const agent = id && (await agentById(db, id));
      const there = agent && agent.deleted_at === null ? agent : undefined;
      return (await readable(principal, there, agentResource, unknown)).id;
    }
    case "group":
      return (await namedGroup(db, principal, name, unknown)).id;
  }
};

/** The member that a path names. Throws 404 for what names none. */
const keyOf = (group: GroupView, params: Readonly<Record<string, string>>): GroupMemberKey => {
  const type = z.enum(["user", "agent", "group"]).safeParse(params.memberType);
  const memberId = parseUuid(params.memberId ?? "");
  if (!type.success || !memberId) throw notFound("Member");
  return { groupId: group.id, memberType: type.data, memberId };
};
