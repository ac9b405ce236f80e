import { HubError, notFound } from "@rootstock/protocol";
import type { AgentView, ProjectRow, ReadScope } from "@rootstock/store";
import { type Action, decide, type Principal, type Resource } from "../auth/index.ts";
import {
  AGENT_ACTIONS,
  AGENT_LIST_ACTIONS,
  type Capabilities,
  capabilities,
  PROJECT_ACTIONS,
  PROJECT_LIST_ACTIONS,
} from "../wire/index.ts";

/** The access decision, asked in the words of the routes. */

/** The rows that `decide` lets the principal read, for lists. */
export const readScope = (principal: Principal, of: "projects" | "agents" = "projects"): ReadScope => {
  if (principal.kind === "user" && principal.limits) {
    const { limits, ...owner } = principal;
    const readable =
      of === "projects" || limits.scopes.some((scope) => scope === "agent:list" || scope === "agent:read");
    return readable
      ? { kind: "within", projectId: limits.projectId, scope: readScope(owner, of) }
      : { kind: "nothing" };
  }
  switch (principal.kind) {
    case "user":
      return principal.role === "admin" ? { kind: "everything" } : { kind: "user", userId: principal.id };
    case "agent":
      return { kind: "project", projectId: principal.projectId };
    case "runtimeBroker":
      return { kind: "runtimeBroker", runtimeBrokerId: principal.id };
    default:
      return { kind: "nothing" };
  }
};

/** A project as the decision knows it. `providers`: the runtime brokers that serve it, where one of them may ask. */
export const projectResource = (
  p: Pick<ProjectRow, "id" | "owner_id" | "visibility">,
  providers: readonly string[] = [],
): Resource => ({ kind: "project", id: p.id, ownerId: p.owner_id, visibility: p.visibility, providers });

/** An agent as the decision knows it. */
export const agentResource = (
  a: Pick<AgentView, "id" | "project_id" | "owner_id" | "ancestry" | "runtime_broker_id" | "project_owner_id">,
): Resource => ({
  kind: "agent",
  id: a.id,
  projectId: a.project_id,
  ownerId: a.owner_id,
  ancestry: a.ancestry,
  runtimeBrokerId: a.runtime_broker_id,
  projectOwnerId: a.project_owner_id,
});

/** Whether the principal may. */
export const may = (principal: Principal, action: Action, resource: Resource): boolean =>
  decide(principal, action, resource).allow;

/**
 * Throws unless the principal may: 403 with the reason where it may read the resource, else 404, as if it were not there.
 * Whoever may do the thing itself need not be allowed to read: a token may be for stopping alone.
 */
export const demandOf = (principal: Principal, action: Action, resource: Resource, what: string): void => {
  const decision = decide(principal, action, resource);
  if (decision.allow) return;
  if (action === "read" || !may(principal, "read", resource)) throw notFound(what);
  throw new HubError("forbidden", `you may not do this: ${decision.reason}`);
};

/** Throws 403 with the reason when the principal may not. */
export const demand = (principal: Principal, action: Action, resource: Resource): void => {
  const decision = decide(principal, action, resource);
  if (!decision.allow) throw new HubError("forbidden", `you may not do this: ${decision.reason}`);
};

const AGENT_ACTION: Record<(typeof AGENT_ACTIONS)[number], Action> = {
  read: "read",
  update: "update",
  delete: "delete",
  start: "start",
  stop: "stop",
  message: "message",
  attach: "attach",
};

/** What the principal may do with the agent. */
export const agentCapabilities = (principal: Principal, agent: AgentView): Capabilities => {
  const resource = agentResource(agent);
  return capabilities(AGENT_ACTIONS, (action) => may(principal, AGENT_ACTION[action], resource));
};

/** What the principal may do with a list of agents: of one project, or of all. */
export const agentListCapabilities = (principal: Principal, project?: Resource): Capabilities =>
  capabilities(AGENT_LIST_ACTIONS, (action) => {
    if (action === "list") return true;
    if (action === "create") return may(principal, "create", project ?? { kind: "hub" });
    return principal.kind === "user" && (principal.role === "admin" || project !== undefined);
  });

/** What the principal may do with the project. */
export const projectCapabilities = (principal: Principal, project: ProjectRow): Capabilities => {
  const resource = projectResource(project);
  const action: Record<(typeof PROJECT_ACTIONS)[number], Action> = {
    read: "read",
    update: "update",
    delete: "delete",
    manage: "update",
    register: "update",
  };
  return capabilities(PROJECT_ACTIONS, (a) => a === "read" || may(principal, action[a], resource));
};

/** What the principal may do with the list of projects. */
export const projectListCapabilities = (principal: Principal): Capabilities =>
  capabilities(PROJECT_LIST_ACTIONS, (action) => action === "list" || may(principal, "create", { kind: "hub" }));
