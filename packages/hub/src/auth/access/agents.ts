import type { AgentPrincipal } from "../principal.ts";
import type { Action } from "../vocabulary.ts";
import { allow, byPolicy, DEFAULT_DENY, type Decision, refuse } from "./decision.ts";
import type { Facts } from "./facts.ts";
import { decidingPolicy } from "./policies.ts";
import { type Resource, targetOf } from "./resource.ts";

/** Scopes of agents' tokens (spec/03 1.2). */
export const AGENT_SCOPES = {
  reportStatus: "agent:status:update",
  refreshToken: "agent:token:refresh",
  notify: "project:agent:notify",
  createAgents: "project:agent:create",
  lifecycle: "project:agent:lifecycle",
} as const;

/** What every agent's token allows (spec/03 1.2). */
const ALWAYS = [AGENT_SCOPES.reportStatus, AGENT_SCOPES.refreshToken, AGENT_SCOPES.notify];
/** What it allows besides where development login is on, as in the original. */
const IN_DEVELOPMENT = [AGENT_SCOPES.createAgents, AGENT_SCOPES.lifecycle];

/** The scopes of the tokens that agents are given. */
export const agentScopes = ({ development }: { readonly development: boolean }): readonly string[] =>
  development ? [...ALWAYS, ...IN_DEVELOPMENT] : ALWAYS;

/** What an agent may do to those that it has started, whatever its scopes. */
const OF_DESCENDANTS: ReadonlySet<Action> = new Set([
  "read",
  "update",
  "delete",
  "lifecycle",
  "start",
  "stop",
  "message",
  "attach",
]);
/** What the scope for lifecycles gives. */
const BY_LIFECYCLE: ReadonlySet<Action> = new Set(["delete", "lifecycle", "start", "stop", "attach"]);
/** What no policy gives an agent: people and their rights, and the machines. */
const OF_PEOPLE: ReadonlySet<string> = new Set(["hub", "policy", "user", "group", "broker", "runtime_broker"]);

/**
 * What can be told of an agent without knowing groups and policies; undefined where those decide (spec/03 5.3). An agent
 * never leaves its project. In it the scopes of its token and its descendants are asked first and alone decide what they
 * are about, so that a report or a message costs no look at policies.
 */
export const decideForAgentAtOnce = (
  agent: AgentPrincipal,
  action: Action,
  resource: Resource,
): Decision | undefined => {
  const scoped = (scope: string): Decision =>
    agent.scopes.includes(scope) ? allow(`scope ${scope}`) : refuse(`scope ${scope} is missing`);
  if (resource.kind === "runtimeBroker") return action === "read" ? allow("any agent") : refuse("not for agents");
  const { type, projectId } = targetOf(action, resource);
  if (projectId !== undefined && projectId !== agent.projectId) return refuse("another project");
  if (OF_PEOPLE.has(type)) return action === "read" || action === "list" ? byKind(type) : refuse("not for agents");
  if (resource.kind === "project") {
    if (action === "read") return allow("its own project");
    if (action === "create") return scoped(AGENT_SCOPES.createAgents);
    return action === "stop_all" ? scoped(AGENT_SCOPES.lifecycle) : undefined;
  }
  if (resource.kind !== "agent") return undefined;
  const self = resource.id === agent.id;
  if (action === "report") return self ? scoped(AGENT_SCOPES.reportStatus) : refuse("only about itself");
  if (action === "refresh") return self ? scoped(AGENT_SCOPES.refreshToken) : refuse("only for itself");
  if (action === "read" || action === "message") return allow("its own project");
  if (OF_DESCENDANTS.has(action) && resource.ancestry.includes(agent.id)) return allow("ancestor access");
  return BY_LIFECYCLE.has(action) ? scoped(AGENT_SCOPES.lifecycle) : undefined;
};

/** The hub itself is nothing to agents; of people and groups policies tell who may read. */
const byKind = (type: string): Decision | undefined => (type === "hub" ? refuse("not for agents") : undefined);

/** What the policies that reach the agent, itself or through whom it acts for, say of it. */
export const decideForAgentByFacts = (facts: Facts, action: Action, resource: Resource): Decision => {
  const policy = decidingPolicy(facts, action, targetOf(action, resource));
  return policy ? byPolicy(policy) : DEFAULT_DENY;
};
