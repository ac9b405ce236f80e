import type { Uuid } from "@rootstock/protocol";
import type { AccessTokenScope, TokenLimits } from "./accessTokens.ts";
import type { AgentPrincipal, Principal, UserPrincipal } from "./principal.ts";
import type { Action } from "./vocabulary.ts";

/**
 * Who may do what to which resource. Pure: everything it needs to know is passed in. Today's rules are a first step; the
 * full model (groups, policies, access tokens) replaces the body of `decide` and leaves its callers alone.
 */

export type Resource =
  | { readonly kind: "hub" }
  | {
      readonly kind: "project";
      readonly id: Uuid;
      readonly ownerId: Uuid | null;
      readonly visibility?: "private" | "team" | "public";
      /** Runtime brokers that provide for it, where that matters. */
      readonly providers?: readonly Uuid[];
    }
  | {
      readonly kind: "agent";
      readonly id: Uuid;
      readonly projectId: Uuid;
      readonly ownerId: Uuid | null;
      readonly ancestry: readonly string[];
      readonly runtimeBrokerId: Uuid | null;
      /** The owner of its project, where it is known. */
      readonly projectOwnerId?: Uuid | null;
    }
  | {
      readonly kind: "runtimeBroker";
      readonly id: Uuid;
      readonly createdBy: Uuid | null;
      readonly autoProvide: boolean;
    };

export interface Decision {
  readonly allow: boolean;
  /** Why, in words for the log and for the caller who is refused. */
  readonly reason: string;
}

const allow = (reason: string): Decision => ({ allow: true, reason });
const refuse = (reason: string): Decision => ({ allow: false, reason });

/** Scopes of agents' tokens (spec/03 1.2). */
export const AGENT_SCOPES = {
  reportStatus: "agent:status:update",
  refreshToken: "agent:token:refresh",
  notify: "project:agent:notify",
  createAgents: "project:agent:create",
  lifecycle: "project:agent:lifecycle",
} as const;

/** Whether `principal` may do `action` to `resource`. What no rule allows is refused. */
export const decide = (principal: Principal, action: Action, resource: Resource): Decision => {
  switch (principal.kind) {
    case "user":
      return decideForUser(principal, action, resource);
    case "agent":
      return decideForAgent(principal, action, resource);
    case "runtimeBroker":
      return decideForRuntimeBroker(principal.id, action, resource);
    case "replica":
      return refuse("a replica acts for nobody");
    default:
      return refuse("not signed in");
  }
};

const decideForUser = (user: UserPrincipal, action: Action, resource: Resource): Decision => {
  if (user.limits) {
    const limited = decideForToken(user.limits, action, resource);
    if (!limited.allow) return limited;
  }
  if (user.role === "admin") return allow("admin");
  if (resource.kind === "hub") return action === "create" ? allow("any user") : refuse("admins only");
  if (resource.kind === "runtimeBroker") {
    if (action === "read") return allow("any user");
    if (resource.createdBy === user.id) return allow("its creator");
    if (action === "dispatch" && resource.autoProvide) return allow("provides for everybody");
    return refuse("only its creator or an admin may do this");
  }
  if (resource.ownerId === user.id) return allow("its owner");
  if (resource.kind === "agent") {
    if (resource.ancestry.includes(user.id)) return allow("started by this user");
    if (resource.projectOwnerId === user.id) return allow("owner of its project");
    return refuse("only its owner, whoever started it, or an admin may do this");
  }
  if (action === "read" && (resource.visibility ?? "private") !== "private") return allow("not private");
  return refuse("only its owner or an admin may do this");
};

/** What each action on an agent needs; what is not here no token allows. */
const AGENT_ACTION_SCOPES: Readonly<Partial<Record<Action, readonly AccessTokenScope[]>>> = {
  read: ["agent:read", "agent:list"],
  delete: ["agent:delete"],
  message: ["agent:message"],
  attach: ["agent:attach"],
  start: ["agent:start"],
  stop: ["agent:stop"],
};

/** What a token allows before its owner's own rights are asked: one project, and of that what its scopes say. */
const decideForToken = ({ projectId, scopes }: TokenLimits, action: Action, resource: Resource): Decision => {
  const scoped = (...either: readonly AccessTokenScope[]): Decision =>
    either.some((scope) => scopes.includes(scope))
      ? allow(`scope ${either.join(" or ")}`)
      : refuse(`token does not have scope: ${either.join(" or ")}`);
  switch (resource.kind) {
    case "hub":
      return refuse("not for access tokens");
    case "runtimeBroker":
      if (action === "read") return allow("any token");
      return action === "dispatch"
        ? scoped("agent:dispatch", "agent:create", "agent:start")
        : refuse("not for access tokens");
    case "project":
      if (resource.id !== projectId) return refuse("token not scoped for this project");
      // Clients look the project up on their way to its agents, whatever they want of them.
      if (action === "read") return allow("the token's project");
      return action === "create" ? scoped("agent:create") : refuse("not for access tokens");
    case "agent": {
      if (resource.projectId !== projectId) return refuse("token not scoped for this project");
      // Restart does both.
      if (action === "lifecycle" && !scopes.includes("agent:stop")) return scoped("agent:stop");
      const needed = AGENT_ACTION_SCOPES[action === "lifecycle" ? "start" : action];
      return needed ? scoped(...needed) : refuse("not for access tokens");
    }
  }
};

const decideForAgent = (agent: AgentPrincipal, action: Action, resource: Resource): Decision => {
  const scoped = (scope: string): Decision =>
    agent.scopes.includes(scope) ? allow(`scope ${scope}`) : refuse(`scope ${scope} is missing`);
  if (resource.kind === "runtimeBroker") return action === "read" ? allow("any agent") : refuse("not for agents");
  if (resource.kind === "hub") return refuse("not for agents");
  if (resource.kind === "project") {
    if (resource.id !== agent.projectId) return refuse("another project");
    if (action === "read") return allow("its own project");
    return action === "create" ? scoped(AGENT_SCOPES.createAgents) : refuse("not for agents");
  }
  if (resource.projectId !== agent.projectId) return refuse("an agent of another project");
  switch (action) {
    case "read":
    case "message":
      return allow("its own project");
    case "report":
      return resource.id === agent.id ? scoped(AGENT_SCOPES.reportStatus) : refuse("only about itself");
    case "refresh":
      return resource.id === agent.id ? scoped(AGENT_SCOPES.refreshToken) : refuse("only for itself");
    case "lifecycle":
    case "start":
    case "stop":
    case "delete":
    case "attach":
      return scoped(AGENT_SCOPES.lifecycle);
    default:
      return refuse("not for agents");
  }
};

const decideForRuntimeBroker = (id: Uuid, action: Action, resource: Resource): Decision => {
  switch (resource.kind) {
    case "runtimeBroker":
      if (action === "read") return allow("any runtime broker");
      if (action === "rotate" && resource.id === id) return allow("itself");
      return refuse("only for itself");
    case "agent":
      if (resource.runtimeBrokerId !== id) return refuse("an agent that it does not run");
      return action === "read" || action === "report" ? allow("it runs this agent") : refuse("not for runtime brokers");
    case "project":
      return action === "read" && resource.providers?.includes(id) === true
        ? allow("it provides for this project")
        : refuse("a project that it does not provide for");
    default:
      return refuse("not for runtime brokers");
  }
};
