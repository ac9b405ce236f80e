import type { Principal } from "../principal.ts";
import type { Action } from "../vocabulary.ts";
import { decideForAgentAtOnce, decideForAgentByFacts } from "./agents.ts";
import { type Decision, refuse } from "./decision.ts";
import { type Facts, NO_FACTS } from "./facts.ts";
import type { Resource } from "./resource.ts";
import { decideForRuntimeBroker } from "./runtimeBrokers.ts";
import { decideForUserAtOnce, decideForUserByFacts } from "./users.ts";

/** Who may do what to which resource (spec/03 section 5). Pure: everything it needs to know is passed in. */

/** The decision, where principal and resource alone tell it; undefined where groups and policies are to be asked. */
export const decideAtOnce = (principal: Principal, action: Action, resource: Resource): Decision | undefined => {
  switch (principal.kind) {
    case "user":
      return decideForUserAtOnce(principal, action, resource);
    case "agent":
      return decideForAgentAtOnce(principal, action, resource);
    case "runtimeBroker":
      return decideForRuntimeBroker(principal.id, action, resource);
    case "replica":
      return refuse("a replica acts for nobody");
    default:
      return refuse("not signed in");
  }
};

/** Whether `principal` may do `action` to `resource`. What no rule allows is refused. */
export const decide = (principal: Principal, action: Action, resource: Resource, facts: Facts): Decision =>
  decideAtOnce(principal, action, resource) ??
  (principal.kind === "agent"
    ? decideForAgentByFacts(facts, action, resource)
    : decideForUserByFacts(facts, action, resource));

/** The decision, with the facts loaded if it hangs on them. Throws when they cannot be read. */
export const decisionOn = async (principal: Principal, action: Action, resource: Resource): Promise<Decision> =>
  decideAtOnce(principal, action, resource) ?? decide(principal, action, resource, await factsOf(principal));

/** What is known of the principal's groups and policies: for several decisions at once. */
export const factsOf = async (principal: Principal): Promise<Facts> =>
  (principal.kind === "user" || principal.kind === "agent") && principal.facts ? principal.facts() : NO_FACTS;
