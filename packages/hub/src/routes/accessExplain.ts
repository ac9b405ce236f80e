import { invalidField } from "@rootstock/protocol";
import { z } from "zod";
import { ACTIONS, type Explanation, type Facts, type ResourceKind } from "../auth/index.ts";
import { count, id } from "../wire/index.ts";
import { usersAndAgents } from "./access.ts";
import { type AccessAboutDeps, askedAbout, explained, principalFields } from "./accessAbout.ts";
import { kindNamed } from "./namedResources.ts";
import { json, type Route, route } from "./route.ts";

const explainQuery = z.object({
  ...principalFields,
  action: z.enum(ACTIONS, "is no action"),
  resourceType: z
    .string()
    .transform(kindNamed)
    .refine((kind): kind is ResourceKind => kind !== undefined, "is no kind of resource"),
  resourceId: z.string().max(64).optional(),
  /** From where the call would come; policies that ask for it hold from nowhere unless it is given. */
  sourceIp: z.string().max(64).optional(),
});

const policyJson = z.object({
  id,
  name: z.string(),
  effect: z.enum(["allow", "deny"]),
  priority: z.int(),
  scopeType: z.string(),
  scopeId: z.string().optional(),
});
const suspendedReply = z.object({ allowed: z.literal(false), reason: z.string() });
const explainReply = z.object({
  allowed: z.boolean(),
  reason: z.string(),
  matchedPolicy: policyJson.optional(),
  byFacts: z.boolean(),
  effectiveGroups: z.array(z.object({ id, slug: z.string(), projectId: id.optional(), role: z.string().optional() })),
  facts: z.object({ policies: count, managedProjects: z.array(id), joinedProjects: z.array(id) }),
});

/** Why somebody may do something, or may not: for admins about everybody, for everybody about themselves. */
export const accessExplainRoutes = ({ db, access, developmentToken }: AccessAboutDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/access/explain",
    access: usersAndAgents,
    does: { action: "read", on: "self" },
    query: explainQuery,
    summary: "Why somebody may do something, or may not",
    replies: { 200: z.union([suspendedReply, explainReply]) },
    refuses: ["not_found"],
    handler: async ({ principal, query }) => {
      const about = await askedAbout({ db, developmentToken }, principal, query);
      if ("allowed" in about) return json(200, about);
      const { resourceType: kind, resourceId, action, sourceIp } = query;
      if (kind === undefined) throw invalidField("resourceType", "resourceType: is no kind of resource");
      const facts = await access.of(about, sourceIp);
      const told = await explained(db, principal, { about, action, kind, resourceId, facts });
      return json(200, explanationJson(told, facts));
    },
  }),
];

const explanationJson = ({ allow, reason, policy, byFacts, groups, policies }: Explanation, { rights }: Facts) => ({
  allowed: allow,
  reason,
  ...(policy && {
    matchedPolicy: {
      id: policy.id,
      name: policy.name,
      effect: policy.effect,
      priority: policy.priority,
      scopeType: policy.scopeType,
      ...(policy.scopeId && { scopeId: policy.scopeId }),
    },
  }),
  /** Whether it hung on groups and policies at all. */
  byFacts,
  effectiveGroups: groups.map(({ id, slug, projectId, role }) => ({
    id,
    slug,
    ...(projectId && { projectId }),
    ...(role && { role }),
  })),
  facts: { policies, managedProjects: [...rights.managed], joinedProjects: [...rights.joined] },
});
