import { CONTROL_CHANNEL_PATH } from "../control/index.ts";
import { INTERNAL_CALLS_PATH } from "../sockets/index.ts";
import { INTERNAL_STREAMS_PATH } from "../streams/index.ts";
import { agents, replicas, runtimeBrokers, usersAndAgents } from "./access.ts";
import type { Declared } from "./does.ts";

/**
 * The WebSockets of a replica, declared like other routes. Their handlers run before there is an answer to write, outside
 * the app, and refuse in HTTP what is not allowed.
 */
export interface UpgradeRoute extends Declared {
  readonly method: "GET";
}

/** By which of the replica's handlers each is served. */
export const UPGRADE_ROUTES = {
  controlChannel: [
    {
      method: "GET",
      path: CONTROL_CHANNEL_PATH,
      access: runtimeBrokers,
      does: { action: "connect", on: "self" },
    },
  ],
  peerCalls: [
    {
      method: "GET",
      path: INTERNAL_CALLS_PATH,
      access: replicas,
      does: { action: "connect", on: "replica" },
    },
  ],
  peerStreams: [
    {
      method: "GET",
      path: INTERNAL_STREAMS_PATH,
      access: replicas,
      does: { action: "connect", on: "replica" },
    },
  ],
  terminals: ["/api/v1/agents", "/api/v1/projects/:projectId/agents"].map((place) => ({
    method: "GET",
    path: `${place}/:agentId/pty`,
    access: usersAndAgents,
    does: { action: "attach", on: "agent" },
  })),
  portTunnels: [
    {
      method: "GET",
      path: "/api/v1/agents/:agentId/ports/tunnel",
      access: agents,
      does: { action: "connect", on: "self" },
    },
  ],
} as const satisfies Readonly<Record<string, readonly UpgradeRoute[]>>;
