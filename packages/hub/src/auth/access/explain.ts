import type { Principal } from "../principal.ts";
import type { Action } from "../vocabulary.ts";
import { decide, decideAtOnce } from "./decide.ts";
import type { Decision } from "./decision.ts";
import type { Facts, GroupFact } from "./facts.ts";
import type { Resource } from "./resource.ts";

/** A decision with what it was made from. */
export interface Explanation extends Decision {
  /** Whether groups and policies were looked at. */
  readonly byFacts: boolean;
  readonly groups: readonly GroupFact[];
  /** How many policies reach the principal. */
  readonly policies: number;
}

/** Decides, and says from what. */
export const explain = (principal: Principal, action: Action, resource: Resource, facts: Facts): Explanation => ({
  ...decide(principal, action, resource, facts),
  byFacts: decideAtOnce(principal, action, resource) === undefined,
  groups: facts.rights.groups,
  policies: facts.rights.policies.length,
});
