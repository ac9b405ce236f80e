import type { UserPrincipal } from "../principal.ts";
import type { Action } from "../vocabulary.ts";
import { allow, byPolicy, DEFAULT_DENY, type Decision, refuse } from "./decision.ts";
import type { Facts } from "./facts.ts";
import { decidingPolicy } from "./policies.ts";
import { type Resource, type Target, targetOf } from "./resource.ts";
import { decideForToken } from "./tokens.ts";

const READS: ReadonlySet<Action> = new Set(["read", "list"]);
/** What anybody may begin, and then owns. */
const ANYBODY_CREATES: ReadonlySet<string> = new Set(["agent", "group", "broker"]);
/** Who may do what, and who is who: admins' alone, whatever a policy says. A policy must not be a way to more rights. */
const ADMINISTERED: ReadonlySet<string> = new Set(["hub", "policy", "user"]);

/** What can be told of a person without knowing groups and policies; undefined where those decide (spec/03 5.2). */
export const decideForUserAtOnce = (user: UserPrincipal, action: Action, resource: Resource): Decision | undefined => {
  if (user.limits) {
    const limited = decideForToken(user.limits, action, resource);
    if (!limited.allow) return limited;
  }
  if (user.role === "admin") return allow("admin bypass");
  if (resource.kind === "hub" && resource.of === undefined) return refuse("admins only");
  const reads = READS.has(action);
  const target = targetOf(action, resource);
  if (target.type === "user" && resource.kind !== "hub" && target.id === user.id && (reads || action === "update"))
    return allow("resource owner");
  if (user.role === "viewer" && !reads) return refuse("viewers only read");
  if (ADMINISTERED.has(target.type)) return reads ? undefined : refuse("admins only");
  if (resource.kind === "hub")
    return action === "create" && ANYBODY_CREATES.has(target.type) ? allow("any user") : undefined;
  if (resource.kind === "runtimeBroker") {
    if (reads) return allow("any user");
    if (action === "dispatch" && resource.autoProvide) return allow("provides for everybody");
  }
  if (target.ownerId === user.id) return allow("resource owner");
  if (target.ancestry.includes(user.id)) return allow("ancestor access");
  return target.projectOwnerId === user.id ? allow("project owner/admin") : undefined;
};

/**
 * What groups and policies say of it: whoever runs the project may do everything in it; then the policies; and then a
 * project is read by its members, and a public one by everybody. Policies' denies reach neither admins nor owners,
 * ancestors, and who runs the project (spec/03 5.2).
 */
export const decideForUserByFacts = (facts: Facts, action: Action, resource: Resource): Decision => {
  const target = targetOf(action, resource);
  const { rights } = facts;
  if (target.projectId !== undefined && rights.managed.has(target.projectId) && !ADMINISTERED.has(target.type))
    return allow("project owner/admin");
  const own = target.type === "group" ? ownGroup(facts, action, target) : undefined;
  if (own) return own;
  const policy = decidingPolicy(facts, action, target);
  if (policy) return byPolicy(policy);
  if (!READS.has(action) || target.guarded) return DEFAULT_DENY;
  if (target.projectId !== undefined && rights.joined.has(target.projectId)) return allow("project member");
  return target.visibility === "public" ? allow("public") : DEFAULT_DENY;
};

/** A group is read by who is in it, filled by its admins, and changed by its owners. */
const ownGroup = ({ rights }: Facts, action: Action, target: Target): Decision | undefined => {
  const group = rights.groups.find((g) => g.id === target.id);
  if (!group) return undefined;
  if (READS.has(action)) return allow("group member");
  if (group.role === "owner") return allow("group owner/admin");
  return group.role === "admin" && (action === "addMember" || action === "removeMember")
    ? allow("group owner/admin")
    : undefined;
};
