import { HubError, invalidField } from "@rootstock/protocol";
import { z } from "zod";
import {
  ACTIONS,
  type Action,
  type AgentPrincipal,
  decide,
  type Explanation,
  explain,
  type Facts,
  isAdmin,
  type Resource,
  type ResourceKind,
  type UserPrincipal,
} from "../auth/index.ts";
import { count, id } from "../wire/index.ts";
import { usersAndAgents } from "./access.ts";
import { type AccessAboutDeps, askedAbout, principalFields } from "./accessAbout.ts";
import { kindNamed, namedResource } from "./namedResources.ts";
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
export const accessExplainRoutes = ({ db, access }: AccessAboutDeps): Route[] => [
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
      const about = await askedAbout(db, principal, query);
      if ("allowed" in about) return json(200, about);
      const { resourceType: kind, resourceId, action, sourceIp } = query;
      if (kind === undefined) throw invalidField("resourceType", "resourceType: is no kind of resource");
      const facts = await access.of(about, sourceIp);
      const find = () => namedResource(db, kind, resourceId);
      const resource = isAdmin(principal) ? await find() : await known(find, about, action, facts);
      // What is not there, and what may not be known to be there, are explained alike.
      const told = resource ? explain(about, action, resource, facts) : { ...nothing(facts), reason: "default deny" };
      return json(200, explanationJson(told, facts));
    },
  }),
];

/** The resource; undefined where there is none, or none that whom it is about may know of. */
const known = async (
  find: () => Promise<Resource>,
  about: UserPrincipal | AgentPrincipal,
  action: Action,
  facts: Facts,
): Promise<Resource | undefined> => {
  try {
    const resource = await find();
    const may = (what: Action) => decide(about, what, resource, facts).allow;
    return resource.kind === "hub" || may("read") || may(action) ? resource : undefined;
  } catch (err) {
    if (err instanceof HubError && err.code === "not_found") return undefined;
    throw err;
  }
};

const nothing = ({ rights }: Facts): Omit<Explanation, "reason"> => ({
  allow: false,
  byFacts: true,
  groups: rights.groups,
  policies: rights.policies.length,
});

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
