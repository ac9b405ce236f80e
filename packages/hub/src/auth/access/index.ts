/** The access decision: pure rules, a file for each kind of principal, and the facts that they look at. */
export * from "./accessFacts.ts";
export { AGENT_SCOPES, agentScopes } from "./agents.ts";
export * from "./decide.ts";
export type { Decision } from "./decision.ts";
export * from "./explain.ts";
export * from "./facts.ts";
export * from "./policies.ts";
export * from "./policyTimes.ts";
export * from "./readScope.ts";
export type {
  AgentResource,
  HubResource,
  ProjectResource,
  Resource,
  RuntimeBrokerResource,
  StoredResource,
} from "./resource.ts";
