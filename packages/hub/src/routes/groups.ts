import { HubError, invalidField, notFound, slugify } from "@rootstock/protocol";
import {
  addGroupMember,
  changeGroup,
  countGroups,
  type Db,
  deleteGroup,
  effectiveGroups,
  type GroupFilter,
  type GroupView,
  groupById,
  insertGroup,
  isForeignKeyViolation,
  listGroups,
  readableGroup,
} from "@rootstock/store";
import { z } from "zod";
import { factsOf, type Principal, type UserPrincipal } from "../auth/index.ts";
import { capabilitiesJson, groupJson, groupReply, pageFields } from "../wire/index.ts";
import { users, usersAndAgents } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { choice, labels, MAX_NAME, MAX_TEXT, text } from "./fields.ts";
import { demandRank, findReadableGroup, groupOf, namedGroup, userOf } from "./groupLookup.ts";
import { agentOf, optionalUuid } from "./lookup.ts";
import { listJson, pageQuery } from "./pages.ts";
import { abilitiesOf, demand, groupResource, readRules, readScope } from "./rights.ts";
import { type Call, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/** Groups (spec/03 6.2): read by who is in them, filled by their admins, changed by their owners. */

const PATH = "/api/v1/groups";
const SIZES = { usual: 50, max: 500, first: 50 };

const listQuery = z.object({
  ...pageQuery,
  ownerId: z.string().optional(),
  parentId: z.string().optional(),
  projectId: z.string().optional(),
  groveId: z.string().optional(),
  groupType: choice("explicit", "project_agents"),
});

const createBody = z.object({
  name: z.string().trim().min(1, "name is required").max(MAX_NAME),
  slug: text(MAX_NAME),
  description: text(MAX_TEXT),
  groupType: choice("explicit"),
  parentId: text(MAX_NAME),
  ownerId: text(64),
  labels,
  annotations: labels,
});

const patchBody = z.object({
  name: text(MAX_NAME),
  description: text(MAX_TEXT),
  ownerId: text(64),
  labels,
  annotations: labels,
});

export const groupRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: users,
    does: { action: "list", on: "group" },
    query: listQuery,
    summary: "Groups that the caller may read",
    replies: { 200: z.object({ ...pageFields, groups: z.array(groupReply), _capabilities: capabilitiesJson }) },
    handler: async (call) => json(200, await list(deps.db, call)),
  }),
  route({
    method: "POST",
    path: PATH,
    access: users,
    does: { action: "create", on: "group" },
    body: createBody,
    summary: "Makes a group",
    replies: { 201: groupReply.extend({ parentId: z.string().optional() }) },
    refuses: ["conflict"],
    handler: (call) => create(deps, call),
  }),
  route({
    method: "GET",
    path: `${PATH}/:groupId`,
    access: users,
    does: { action: "read", on: "group" },
    summary: "One group, by id or slug",
    replies: { 200: groupReply },
    handler: async (call) => json(200, await shown(call, await groupOf(deps.db, call))),
  }),
  route({
    method: "PATCH",
    path: `${PATH}/:groupId`,
    access: users,
    does: { action: "update", on: "group" },
    body: patchBody,
    summary: "Changes a group",
    replies: { 200: groupReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const group = await groupOf(deps.db, call);
      const { body } = call;
      const ownerId = optionalUuid("ownerId", body.ownerId) ?? group.owner_id;
      // Whoever owns a group has every rank in it.
      if (ownerId !== group.owner_id) await demandRank(deps.db, call, group, "owner");
      const changed = await knownOwner(() =>
        changeGroup(deps.db, group.id, {
          ...(body.name && { name: body.name }),
          ...(body.description && { description: body.description }),
          ...(ownerId !== group.owner_id && { owner_id: ownerId }),
          ...(body.labels && { labels: JSON.stringify(body.labels) }),
          ...(body.annotations && { annotations: JSON.stringify(body.annotations) }),
        }),
      );
      if (!changed) throw notFound("Group");
      deps.changed();
      return json(200, await shown(call, { ...group, ...changed }));
    },
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:groupId`,
    access: users,
    does: { action: "delete", on: "group" },
    summary: "Deletes a group",
    replies: { 204: NO_BODY },
    refuses: ["conflict"],
    handler: async (call) => {
      const group = await groupOf(deps.db, call);
      // Without them nobody would be a member of the hub, or of the project, and the policies bound to them reach nobody.
      if (group.project_id !== null || group.slug === HUB_MEMBERS)
        throw new HubError("validation_error", "this group is the hub's own: it goes with what it is for");
      if (!(await deleteGroup(deps.db, group.id))) throw notFound("Group");
      deps.changed();
      return empty();
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/users/me/groups",
    access: users,
    does: { action: "list", on: "self" },
    summary: "The groups that the caller is in",
    replies: { 200: z.object({ groups: z.array(groupReply) }) },
    handler: async ({ principal }) => {
      const groups = await effectiveGroups(deps.db, { type: "user", id: userOf(principal).id });
      return json(200, { groups: groups.map((group) => groupJson(group)) });
    },
  }),
  ...["/api/v1/agents", "/api/v1/projects/:projectId/agents"].map((place) =>
    route({
      method: "GET",
      path: `${place}/:agentId/groups`,
      access: usersAndAgents,
      does: { action: "read", on: "agent" },
      summary: "The groups that an agent is in",
      replies: { 200: z.object({ groups: z.array(groupReply) }) },
      handler: async (call) => {
        const { id } = await agentOf(deps.db, call);
        const groups = await effectiveGroups(deps.db, { type: "agent", id });
        return json(200, { groups: groups.map((group) => groupJson(group)) });
      },
    }),
  ),
];

const HUB_MEMBERS = "hub-members";

const list = async (db: Db, { principal, query }: Call<z.output<typeof listQuery>>): Promise<object> => {
  const abilities = await abilitiesOf(principal);
  const named = {
    ownerId: optionalUuid("ownerId", query.ownerId),
    parentId: query.parentId ? ((await findReadableGroup(db, principal, query.parentId))?.id ?? NOBODY_ID) : undefined,
    projectId: optionalUuid("projectId", query.projectId || query.groveId),
    groupType: query.groupType,
  };
  const filter: GroupFilter = { ...named, readable: await readableGroups(principal) };
  const page = await listJson({
    list: "groups",
    filters: named,
    given: query,
    sizes: SIZES,
    rows: (wanted) => listGroups(db, filter, wanted),
    position: (id) => groupById(db, id),
    count: () => countGroups(db, filter),
    as: "groups",
    toJson: (group) => groupJson(group, abilities.of(groupResource(group))),
  });
  return { ...page, _capabilities: abilities.ofList("group") };
};

/** What the access decision says of one group, said for all. */
const readableGroups = async (principal: Principal): Promise<GroupFilter["readable"]> => {
  const { rights } = await factsOf(principal);
  return readableGroup(await readScope(principal), {
    own: rights.groups.map((g) => g.id),
    rules: await readRules(principal, "group"),
  });
};

/** The id of no group: what is in an unknown one is nothing. */
const NOBODY_ID = "00000000-0000-0000-0000-000000000000";

const shown = async ({ principal }: Pick<Call, "principal">, group: GroupView): Promise<object> =>
  groupJson(group, (await abilitiesOf(principal)).of(groupResource(group)));

const create = async (deps: ResourceDeps, call: Call<unknown, z.output<typeof createBody>>) => {
  const { body } = call;
  const user = userOf(call.principal);
  const ownerId = optionalUuid("ownerId", body.ownerId) ?? user.id;
  if (ownerId !== user.id && user.role !== "admin")
    throw new HubError("forbidden", "only admins make groups for somebody else");
  const slug = slugify(body.slug ?? body.name);
  if (slug === "") throw invalidField(body.slug ? "slug" : "name", "letters or digits are required");
  const parent = body.parentId ? await parentOf(deps.db, user, body.parentId) : undefined;
  return createOnce(deps, call, (tx) =>
    knownOwner(async () => {
      const group = await insertGroup(tx, {
        id: deps.random.uuid(),
        name: body.name,
        slug,
        description: body.description ?? "",
        ...(body.labels && { labels: JSON.stringify(body.labels) }),
        ...(body.annotations && { annotations: JSON.stringify(body.annotations) }),
        created_by: user.id,
        owner_id: ownerId,
      });
      if (!group) throw new HubError("conflict", `a group with the slug ${slug} is there already`);
      const added = { addedBy: user.id, role: "owner" } as const;
      await addGroupMember(tx, { groupId: group.id, memberType: "user", memberId: ownerId, ...added });
      if (parent) await addGroupMember(tx, { groupId: parent.id, memberType: "group", memberId: group.id, ...added });
      return { status: 201, body: { ...groupJson(group), ...(parent && { parentId: parent.id }) } };
    }),
  );
};

/** The group that a new one is to be put into. Throws 400 when there is none, 403 for one that the user does not fill. */
const parentOf = async (db: Db, user: UserPrincipal, name: string): Promise<GroupView> => {
  const parent = await namedGroup(db, user, name, invalidField("parentId", "parentId: unknown group"));
  if (parent.group_type !== "explicit") throw invalidField("parentId", "parentId: its members are found, not added");
  await demand(user, "addMember", groupResource(parent));
  return parent;
};

const knownOwner = async <T>(write: () => Promise<T>): Promise<T> => {
  try {
    return await write();
  } catch (err) {
    if (isForeignKeyViolation(err)) throw invalidField("ownerId", "ownerId: unknown user");
    throw err;
  }
};
