import { HubError } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import { z } from "zod";
import { provenUntil, standsBy } from "../auth/index.ts";
import type { OpenStreams } from "../limits/index.ts";
import { type AgentStreams, fromEventId, LogFollower, type Relay, refusalOf, type Tending } from "../streams/index.ts";
import { usersAndAgents } from "./access.ts";
import { askInside, runtimeBrokerOf } from "./insideCall.ts";
import { type Call, json, type Reply, type Route, route } from "./route.ts";
import { EVENT_STREAM } from "./shapes.ts";
import { targetOf } from "./targets.ts";

/** What an agent has printed, and what it prints (spec/02 2.10), from any replica. */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;

/** With how many of the lines that are there a followed log begins, unless said otherwise. */
const USUAL_TAIL = 100;

export interface LogDeps extends Base {
  readonly db: Db;
  readonly relay: Relay;
  readonly streams: AgentStreams;
  readonly tending: Tending;
  readonly openStreams: Pick<OpenStreams, "hold">;
  /** How long a log may be followed, in milliseconds; 0: for ever. */
  readonly streamLimitMs: number;
}

const logsQuery = z.object({
  tail: z.coerce.number().int().min(0).max(1_000_000).optional().catch(undefined),
  since: z.string().optional(),
  /** No client of the original sends it: there `logs` answers once (spec/08 1.4). */
  follow: z.enum(["true", "false", "1", "0"]).optional(),
});
type LogsCall = Call<z.output<typeof logsQuery>>;

export const agentLogRoutes = (deps: LogDeps): Route[] =>
  PLACES.map((place) =>
    route({
      method: "GET",
      path: `${place}/:agentId/logs`,
      access: usersAndAgents,
      does: { action: "attach", on: "agent" },
      accessTokens: true,
      query: logsQuery,
      summary: "What an agent has printed; with follow what it prints",
      replies: { 200: [z.object({ logs: z.string() }), EVENT_STREAM] },
      refuses: [
        "no_runtime_broker",
        "runtime_broker_unavailable",
        "runtime_error",
        "conflict",
        "runtime_attach_unsupported",
        "too_many_streams",
      ],
      handler: (call) =>
        call.query.follow === "true" || call.query.follow === "1" ? follow(deps, call) : read(deps, call),
    }),
  );

const read = async (deps: LogDeps, call: LogsCall): Promise<Reply> => {
  const target = await targetOf(deps.db, call);
  const { tail } = call.query;
  const text = await askInside(deps.relay, target, {
    what: "read logs",
    method: "GET",
    action: "logs",
    traceparent: call.traceparent,
    ...(tail !== undefined && { query: { tail: String(tail) } }),
  });
  return json(200, { logs: text });
};

const follow = async (deps: LogDeps, call: LogsCall): Promise<Reply> => {
  const { db, streams, tending, openStreams, streamLimitMs } = deps;
  if (!tending.open) throw new HubError("unavailable", "this replica is shutting down", { retryAfter: 1 });
  const target = await targetOf(db, call);
  const runtimeBrokerId = runtimeBrokerOf(target);
  const after = call.headers.get("last-event-id") ?? undefined;
  const release = await openStreams.hold(call.principal);
  const follower = new LogFollower(deps, {
    after: fromEventId(after),
    limitMs: streamLimitMs,
    recheck: () => refusalOf(allowed(deps, call)),
    standsBy: new Set([...standsBy(call.principal), target.agent.id]),
    until: provenUntil(call.principal),
    onLeft: (left) => {
      tending.remove(left);
      release();
    },
  });
  const opening = streams.open(
    {
      streamType: "logs",
      runtimeBrokerId,
      slug: target.agent.slug,
      projectId: target.project.id,
      tail: call.query.tail ?? USUAL_TAIL,
      ...(fromEventId(after) && { after }),
    },
    follower,
  );
  opening.catch(release);
  const stream = await opening;
  tending.add(follower);
  return follower.respond(stream);
};

/** Throws what the same call would be refused with now. */
const allowed = async ({ db }: LogDeps, call: LogsCall): Promise<void> => {
  const principal = await call.reauthenticate();
  if (principal.kind === "nobody") throw new HubError("unauthorized", "missing authorization header");
  const { agent } = await targetOf(db, { principal, params: call.params, does: call.does });
  if (agent.deleted_at) throw new HubError("not_found", "Agent not found");
};
