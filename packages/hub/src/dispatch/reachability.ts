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
