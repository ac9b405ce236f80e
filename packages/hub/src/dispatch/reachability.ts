import { HubError } from "@rootstock/protocol";
import type { DispatchTarget } from "@rootstock/store";

/** How long after its last socket a runtime broker is waited for, in seconds (design section 5). */
export const RECONNECT_GRACE_SECONDS = 90;

/**
 * Where a runtime broker is, as its row says:
 *
 *   connected   a replica holds its socket (perhaps this one)
 *   returning   its last socket ended within the grace: intents wait for it
 *   away        nobody holds it and it is not expected back; nothing is promised on its behalf
 *   none        the agent has no runtime broker
 */
export type Reachability = "connected" | "returning" | "away" | "none";

export const reachability = (runtimeBroker: DispatchTarget["runtimeBroker"]): Reachability => {
  if (!runtimeBroker) return "none";
  if (runtimeBroker.connectedHubId) return "connected";
  const away = runtimeBroker.awaySeconds;
  return away !== null && away < RECONNECT_GRACE_SECONDS ? "returning" : "away";
};

/**
 * What is refused about an agent that runs nowhere: 422 `no_runtime_broker`. It is so until somebody gives it a runtime
 * broker, so that a client that came again, as 503 would have it, heard the same for ever.
 */
export const runsNowhere = (agent: DispatchTarget["agent"]): HubError =>
  new HubError("no_runtime_broker", `agent ${agent.slug} has no runtime broker`);
