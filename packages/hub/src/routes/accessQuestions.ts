import { invalidField, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import { type Db, effectiveGroups, userById } from "@rootstock/store";
import { z } from "zod";
import { ACTIONS } from "../auth/index.ts";
import { id, some } from "../wire/index.ts";
import { usersAndAgents } from "./access.ts";
import { type AccessAboutDeps, askedAbout, demandSelfOrAdmin, explained, principalFields } from "./accessAbout.ts";
import { groupOf } from "./groupLookup.ts";
import { agentOf } from "./lookup.ts";
import { kindNamed } from "./namedResources.ts";
import { RESOURCE_TYPES } from "./policyBody.ts";
import { type Call, json, type Route, route } from "./route.ts";

/** Questions about somebody's rights: what would be decided, and which groups they are in (spec/03 6.3, 6.4). */

const evaluateBody = z.object({
  ...principalFields,
  resourceType: z.enum(RESOURCE_TYPES),
  resourceId: z.string().max(64).nullish(),
  action: z.enum(ACTIONS),
});

const evaluateReply = z.object({
  allowed: z.boolean(),
  reason: z.string(),
  matchedPolicy: z.string().optional(),
  policyName: z.string().optional(),
  scope: z.string().optional(),
  effectiveGroups: z.array(id).optional(),
});
const principalJson = z.object({
  type: z.enum(["user", "agent", "group"]),
  id,
  displayName: z.string().optional(),
  projectId: id.optional(),
});
const principalReply = z.object({
  principal: principalJson,
  directGroups: z.array(id),
  effectiveGroups: z.array(id),
  delegatesFrom: principalJson.optional(),
});

export const accessQuestionRoutes = ({ db, access, developmentToken }: AccessAboutDeps): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/policies/evaluate",
    access: usersAndAgents,
    does: { action: "read", on: "self" },
    body: evaluateBody,
    summary: "What would be decided",
    replies: { 200: evaluateReply },
    refuses: ["not_found"],
    handler: async ({ body, principal }) => {
      const about = await askedAbout({ db, developmentToken }, principal, body);
      const kind = kindNamed(body.resourceType);
      if (!kind) throw invalidField("resourceType", "resourceType: is no kind of resource");
      if ("allowed" in about) return json(200, about);
      const { action, resourceId } = body;
      const { allow, reason, policy, groups } = await explained(db, principal, {
        about,
        action,
        kind,
        resourceId: resourceId ?? undefined,
        facts: await access.of(about),
      });
      return json(200, {
        allowed: allow,
        reason,
        ...(policy && { matchedPolicy: policy.id, policyName: policy.name, scope: policy.scopeType }),
        ...some(
          "effectiveGroups",
          groups.map((g) => g.id),
        ),
      });
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/principals/:principalType/:principalId",
    access: usersAndAgents,
    does: { action: "read", on: "self" },
    summary: "Somebody, and the groups that they are in",
    replies: { 200: principalReply },
    handler: async (call) => json(200, await described(db, call)),
  }),
];

/** Throws 400 for a type that there is not, 404 for who is not there or not to be read, 403 for other people. */
const described = async (db: Db, call: Call<unknown, undefined>): Promise<object> => {
  const { principalType: type, principalId: name = "" } = call.params;
  switch (type) {
    case "user": {
      demandSelfOrAdmin(call.principal, { principalType: type, principalId: name });
      const user = await userOfId(db, name);
      const groups = await effectiveGroups(db, { type: "user", id: user.id });
      const directGroups = groups.filter((g) => g.direct).map((g) => g.id);
      return {
        principal: { type, id: user.id, ...some("displayName", user.display_name) },
        directGroups,
        effectiveGroups: groups.map((g) => g.id),
      };
    }
    case "agent": {
      const agent = await agentOf(db, { ...call, params: { agentId: name } });
      const groups = (await effectiveGroups(db, { type: "agent", id: agent.id })).map((g) => g.id);
      const [root] = agent.ancestry;
      const creator = root === undefined ? undefined : await userById(db, root);
      return {
        principal: { type, id: agent.id, ...some("displayName", agent.name), projectId: agent.project_id },
        directGroups: groups,
        effectiveGroups: groups,
        ...(creator && {
          delegatesFrom: { type: "user", id: creator.id, ...some("displayName", creator.display_name) },
        }),
      };
    }
    case "group": {
      const group = await groupOf(db, { ...call, params: { groupId: name } });
      return {
        principal: { type, id: group.id, displayName: group.name, ...some("projectId", group.project_id) },
        directGroups: [],
        effectiveGroups: [],
      };
    }
    default:
      throw invalidField("principalType", "principalType: must be user, agent or group");
  }
};

const userOfId = async (db: Db, name: string) => {
  const id: Uuid | undefined = parseUuid(name);
  const user = id && (await userById(db, id));
  if (!user) throw notFound("User");
  return user;
};
