import type { ReadGrants, ReadRule, ReadScope } from "@rootstock/store";
import type { Principal } from "../principal.ts";
import type { Facts } from "./facts.ts";
import { holdsNow, type Policy } from "./policies.ts";

/** What `decide` says of one resource, said for whole lists: the rows that the principal reads. */
export const readScope = (principal: Principal, of: "projects" | "agents", facts: Facts): ReadScope => {
  if (principal.kind === "user" && principal.limits) {
    const { limits, ...owner } = principal;
    const readable =
      of === "projects" || limits.scopes.some((scope) => scope === "agent:list" || scope === "agent:read");
    return readable
      ? { kind: "within", projectId: limits.projectId, scope: readScope(owner, of, facts) }
      : { kind: "nothing" };
  }
  switch (principal.kind) {
    case "user":
      return principal.role === "admin"
        ? { kind: "everything" }
        : { kind: "user", userId: principal.id, grants: readGrants(facts) };
    case "agent":
      return { kind: "project", projectId: principal.projectId };
    case "runtimeBroker":
      return { kind: "runtimeBroker", runtimeBrokerId: principal.id };
    default:
      return { kind: "nothing" };
  }
};

/** What policies say now of reading things of a type that is not guarded, in the order in which they decide. */
export const readRules = (facts: Facts, type: "project" | "agent" | "group" | "user"): readonly ReadRule[] =>
  facts.rights.policies
    .filter((p) => p.resourceType === type || p.resourceType === "*")
    .filter((p) => (p.can.has("read") || p.can.has("*")) && holdsNow(p, facts))
    .map(ruleOf);

/** What groups and policies show a person of projects and agents now. */
const readGrants = (facts: Facts): ReadGrants => {
  const { managed, joined } = facts.rights;
  const [projects, agents] = [readRules(facts, "project"), readRules(facts, "agent")];
  return { managed: [...managed], joined: [...joined], projects, agents };
};

const ruleOf = (p: Policy): ReadRule => ({
  allow: p.effect === "allow",
  ...(p.scopeType === "project" && p.scopeId !== null && { projectId: p.scopeId }),
  ids: [
    ...(p.scopeType === "resource" && p.scopeId !== null ? [p.scopeId] : []),
    ...(p.resourceId ? [p.resourceId] : []),
  ],
  ...(p.labels.length > 0 && { labels: Object.fromEntries(p.labels) }),
  ...(p.conditions.visibility && { visibility: p.conditions.visibility }),
});
