import { HubError } from "@rootstock/protocol";
import type { ActionDeps } from "../actions/index.ts";
import { haltReply, haltRequest, INTERNAL_HALTS_PATH } from "../dispatch/index.ts";
import { INTERNAL_TUNNEL_PATH, MAX_RELAYED_BYTES, type Relay, relayedRequest } from "../streams/index.ts";
import { agentJson, anyObject } from "../wire/index.ts";
import { replicas } from "./access.ts";
import { json, type Route, route } from "./route.ts";

/** What replicas ask of each other. Nobody else gets in: the token names the replica that it is for. */
export const internalRoutes = (deps: {
  readonly relay: Relay;
  readonly actions: Pick<ActionDeps, "dispatcher">;
}): Route[] => [
  route({
    method: "POST",
    path: INTERNAL_HALTS_PATH,
    access: replicas,
    does: { action: "connect", on: "replica" },
    body: haltRequest,
    summary: "A stop or suspend that another replica accepted, over a socket that this one holds",
    replies: { 200: haltReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const outcome = await deps.actions.dispatcher.haltHere(call.body);
      if (!outcome) throw new HubError("conflict", "it was not begun here, or its row says how it ended");
      if (outcome.kind === "failed") return json(200, { kind: "failed", failure: outcome.failure });
      const { result, agent } = outcome;
      return json(200, { kind: "done", result, ...(agent && { shown: agentJson(agent) }) });
    },
  }),
  route({
    method: "POST",
    path: INTERNAL_TUNNEL_PATH,
    access: replicas,
    does: { action: "connect", on: "replica" },
    body: relayedRequest,
    maxBodyBytes: MAX_RELAYED_BYTES,
    summary: "A call of another replica over a socket that this one holds",
    replies: { 200: anyObject },
    refuses: ["conflict", "runtime_error", "runtime_broker_unavailable"],
    handler: async (call) => json(200, await deps.relay.serve(call.body)),
  }),
];
