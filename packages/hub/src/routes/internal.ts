import { HubError } from "@rootstock/protocol";
import type { ActionDeps } from "../actions/index.ts";
import {
  type Dispatcher,
  HALT_CALL,
  type HaltRequest,
  haltReply,
  haltRequest,
  INTERNAL_HALTS_PATH,
} from "../dispatch/index.ts";
import type { AnswersPeer, PeerAnswer } from "../sockets/index.ts";
import { INTERNAL_TUNNEL_PATH, MAX_RELAYED_BYTES, type Relay, relayedRequest } from "../streams/index.ts";
import { agentJson, anyObject } from "../wire/index.ts";
import { replicas } from "./access.ts";
import { json, type Route, route } from "./route.ts";

type HaltsHere = Pick<Dispatcher, "haltHere">;

/** Halts an agent for another replica. Throws 409 when nothing was begun here, or only the row will say how it ended. */
const halt = async (dispatcher: HaltsHere, request: HaltRequest): Promise<PeerAnswer> => {
  const outcome = await dispatcher.haltHere(request);
  if (!outcome) throw new HubError("conflict", "it was not begun here, or its row says how it ended");
  if (outcome.kind === "failed") return { status: 200, body: { kind: "failed", failure: outcome.failure } };
  const { result, agent } = outcome;
  return { status: 200, body: { kind: "done", result, ...(agent && { shown: agentJson(agent) }) } };
};

/** What replicas ask of each other over the sockets between them: some of the routes below, for less. */
export const answersToPeers = (deps: { readonly dispatcher: HaltsHere }): Readonly<Record<string, AnswersPeer>> => ({
  [HALT_CALL]: async (body) => {
    const { data, error } = haltRequest.safeParse(body);
    if (!data) throw new HubError("validation_error", "not the names of a halt", { cause: error });
    return halt(deps.dispatcher, data);
  },
});

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
      const { status, body } = await halt(deps.actions.dispatcher, call.body);
      return json(status, body);
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
