import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import { z } from "zod";
import { type Principal, provenUntil, standsBy } from "../auth/index.ts";
import { isPattern } from "../bus/index.ts";
import type { OpenStreams } from "../limits/index.ts";
import { agentMessageStream, type SseHub, type SseRequest, sseResponse } from "../sse/index.ts";
import { users, usersAndAgents } from "./access.ts";
import { EventListener } from "./eventListener.ts";
import { agentOf } from "./lookup.ts";
import { type Call, type Route, route } from "./route.ts";
import { EVENT_STREAM, PLAIN_TEXT } from "./shapes.ts";

export interface EventRouteDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly sse: SseHub;
  readonly openStreams: Pick<OpenStreams, "hold">;
}

const MAX_PATTERNS = 64;

/** Where to go on. The header wins: a browser repeats the query of its first connection with every later one. */
const position = { lastEventId: z.string().optional(), after: z.string().optional() };

/** Live events (spec/02 7.3, 4.3), resumable (spec/07 B.6). */
export const eventRoutes = (deps: EventRouteDeps): Route[] => [
  route({
    method: "GET",
    path: "/events",
    access: usersAndAgents,
    does: { action: "list", on: "event" },
    repeated: ["sub"],
    query: z.object({ sub: z.array(z.string()), ...position }),
    summary: "Live events, resumable",
    replies: { 200: EVENT_STREAM, 400: PLAIN_TEXT },
    refuses: ["too_many_streams"],
    handler: async (call) => {
      const patterns = call.query.sub;
      if (patterns.length === 0) return refused("at least one sub parameter is required");
      if (patterns.length > MAX_PATTERNS) return refused(`at most ${MAX_PATTERNS} sub parameters are allowed`);
      const bad = patterns.find((pattern) => !isPattern(pattern));
      if (bad !== undefined)
        return refused(`invalid sub ${JSON.stringify(bad.slice(0, 256))}: tokens of A-Z a-z 0-9 _ -, * alone, > last`);
      const listener = new EventListener(deps, call.principal);
      return sseResponse(deps.sse, {
        patterns,
        allow: (event) => listener.allows(event),
        sightChanged: (project) => listener.sightChanged(project),
        ...staying(call, (principal) => listener.look(principal)),
        lastEventId: lastEventId(call),
        signal: call.signal(),
        onEnd: await deps.openStreams.hold(call.principal),
      });
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/agents/:agentId/messages/stream",
    access: users,
    does: { action: "read", on: "agent" },
    query: z.object(position),
    summary: "Live messages between the caller and an agent",
    replies: { 200: EVENT_STREAM },
    refuses: ["too_many_streams"],
    handler: async (call) => {
      if (call.principal.kind !== "user") throw new HubError("forbidden", "only users have messages");
      const agent = await agentOf(deps.db, call);
      const { params, does } = call;
      return sseResponse(deps.sse, {
        ...agentMessageStream({ agentId: agent.id, userId: call.principal.id }),
        sightChanged: (project) => project === undefined || project.id === agent.project_id,
        ...staying(call, (principal) => agentOf(deps.db, { principal, params, does })),
        lastEventId: lastEventId(call),
        signal: call.signal(),
        onEnd: await deps.openStreams.hold(call.principal),
      });
    },
  }),
];

const lastEventId = (call: Call<{ readonly lastEventId?: string | undefined; readonly after?: string | undefined }>) =>
  call.headers.get("last-event-id") || call.query.lastEventId || call.query.after;

/**
 * For how long the caller's stream lasts: until it would not be let in any more, or refused by `look` at who it is now.
 */
const staying = (
  { principal, reauthenticate }: Pick<Call, "principal" | "reauthenticate">,
  look: (principal: Principal) => Promise<unknown>,
): Pick<SseRequest, "recheck" | "standsBy" | "until"> => ({
  recheck: async () => {
    try {
      const now = await reauthenticate();
      if (now.kind !== principal.kind) return false;
      await look(now);
      return true;
    } catch (err) {
      if (err instanceof HubError && err.status < 500) return false;
      throw err;
    }
  },
  standsBy: standsBy(principal),
  until: provenUntil(principal),
});

/** The clients expect plain text here (spec/02 7.3). */
const refused = (reason: string): Response =>
  new Response(`${reason}\n`, { status: 400, headers: { "content-type": "text/plain; charset=utf-8" } });
