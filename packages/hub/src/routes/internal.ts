import { HubError } from "@rootstock/protocol";
import { INTERNAL_TUNNEL_PATH, MAX_RELAYED_BYTES, type Relay, relayedRequest } from "../streams/index.ts";
import { replicas } from "./access.ts";
import { json, type Route, route } from "./route.ts";

/** What replicas ask of each other. Nobody else gets in: the token names the replica that it is for. */
export const internalRoutes = (deps: { readonly relay: Relay }): Route[] => [
  route({
    method: "POST",
    path: INTERNAL_TUNNEL_PATH,
    access: replicas,
    body: relayedRequest,
    maxBodyBytes: MAX_RELAYED_BYTES,
    handler: async (call) => {
      const { runtimeBrokerId, body, query, method, path, timeoutMs } = call.body;
      const response = await deps.relay.callHere(runtimeBrokerId, {
        method,
        path,
        timeoutMs,
        ...(query && { query }),
        ...(body && { body: Buffer.from(body, "base64") }),
      });
      if (!response) throw new HubError("conflict", "this replica does not hold the runtime broker's socket");
      return json(200, {
        status: response.status,
        headers: response.headers,
        body: response.body.toString("base64"),
      });
    },
  }),
];
