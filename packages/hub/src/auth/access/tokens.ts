import type { AccessTokenScope, TokenLimits } from "../accessTokens.ts";
import type { Action } from "../vocabulary.ts";
import { allow, type Decision, refuse } from "./decision.ts";
import type { Resource } from "./resource.ts";

/** What each action on an agent needs; what is not here no token allows. */
const AGENT_ACTION_SCOPES: Readonly<Partial<Record<Action, readonly AccessTokenScope[]>>> = {
  read: ["agent:read", "agent:list"],
  delete: ["agent:delete"],
  message: ["agent:message"],
  attach: ["agent:attach"],
  start: ["agent:start"],
  stop: ["agent:stop"],
};

/**
 * What a token of a person allows before its owner's own rights are asked: one project, and of that what its scopes say
 * (spec/03 1.3).
 */
export const decideForToken = ({ projectId, scopes }: TokenLimits, action: Action, resource: Resource): Decision => {
  const scoped = (...either: readonly AccessTokenScope[]): Decision =>
    either.some((scope) => scopes.includes(scope))
      ? allow(`scope ${either.join(" or ")}`)
      : refuse(`token does not have scope: ${either.join(" or ")}`);
  switch (resource.kind) {
    case "runtimeBroker":
      if (action === "read") return allow("any token");
      return action === "dispatch"
        ? scoped("agent:dispatch", "agent:create", "agent:start")
        : refuse("not for access tokens");
    case "project":
      if (resource.id !== projectId) return refuse("token not scoped for this project");
      // Clients look the project up on their way to its agents, whatever they want of them.
      if (action === "read") return allow("the token's project");
      if (action === "stop_all") return scoped("agent:stop");
      return action === "create" ? scoped("agent:create") : refuse("not for access tokens");
    case "agent": {
      if (resource.projectId !== projectId) return refuse("token not scoped for this project");
      // Restart does both.
      if (action === "lifecycle" && !scopes.includes("agent:stop")) return scoped("agent:stop");
      const needed = AGENT_ACTION_SCOPES[action === "lifecycle" ? "start" : action];
      return needed ? scoped(...needed) : refuse("not for access tokens");
    }
    default:
      return refuse("not for access tokens");
  }
};
