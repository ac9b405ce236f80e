import { INTERNAL_TUNNEL_PATH, MAX_RELAYED_BYTES, type Relay, relayedRequest } from "../streams/index.ts";
import { anyObject } from "../wire/index.ts";
import { replicas } from "./access.ts";
import { json, type Route, route } from "./route.ts";

/** What replicas ask of each other. Nobody else gets in: the token names the replica that it is for. */
export const internalRoutes = (deps: { readonly relay: Relay }): Route[] => [
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
