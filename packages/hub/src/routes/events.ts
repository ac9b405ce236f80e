import { HubError, type Uuid } from "@rootstock/protocol";
import { type Db, readableIds } from "@rootstock/store";
import { z } from "zod";
import { factsOf, type Principal, provenUntil, standsBy } from "../auth/index.ts";
import { type HubEvent, isPattern } from "../bus/index.ts";
import { agentMessageStream, type SseHub, type SseRequest, sseResponse } from "../sse/index.ts";
import { users, usersAndAgents } from "./access.ts";
import { EVENT_SUBJECTS } from "./eventSubjects.ts";
import { agentOf } from "./lookup.ts";
import { readScope } from "./rights.ts";
import { type Call, type Route, route } from "./route.ts";
import { EVENT_STREAM, PLAIN_TEXT } from "./shapes.ts";

export interface EventRouteDeps {
  readonly db: Db;
  readonly sse: SseHub;
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
    handler: async (call) => {
      const patterns = call.query.sub;
      if (patterns.length === 0) return refused("at least one sub parameter is required");
      if (patterns.length > MAX_PATTERNS) return refused(`at most ${MAX_PATTERNS} sub parameters are allowed`);
      const bad = patterns.find((pattern) => !isPattern(pattern));
      if (bad !== undefined)
        return refused(`invalid sub ${JSON.stringify(bad.slice(0, 256))}: tokens of A-Z a-z 0-9 _ -, * alone, > last`);
      return sseResponse(deps.sse, {
        patterns,
        allow: await listener(deps.db, call.principal),
        ...(await staying(call)),
        lastEventId: lastEventId(call),
        signal: call.signal,
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
    handler: async (call) => {
      if (call.principal.kind !== "user") throw new HubError("forbidden", "only users have messages");
      const agent = await agentOf(deps.db, call);
      return sseResponse(deps.sse, {
        ...agentMessageStream({ agentId: agent.id, userId: call.principal.id }),
        ...(await staying(call)),
        lastEventId: lastEventId(call),
        signal: call.signal,
      });
    },
  }),
];

const lastEventId = (call: Call<{ readonly lastEventId?: string | undefined; readonly after?: string | undefined }>) =>
  call.headers.get("last-event-id") || call.query.lastEventId || call.query.after;

/** For how long the caller's stream lasts. */
const staying = async (call: Call): Promise<Pick<SseRequest, "recheck" | "standsBy" | "until">> => ({
  recheck: await standsAsBefore(call),
  standsBy: standsBy(call.principal),
  until: provenUntil(call.principal),
});

/**
 * Tells whether the caller is still let in with the rights that the stream began with. One that is not is cut, and comes
 * back, with the rights of then, to where it was.
 */
const standsAsBefore = async ({ principal, reauthenticate }: Pick<Call, "principal" | "reauthenticate">) => {
  const began = await rightsOf(principal);
  return async (): Promise<boolean> => {
    try {
      return (await rightsOf(await reauthenticate())) === began;
    } catch (err) {
      if (err instanceof HubError && err.status < 500) return false;
      throw err;
    }
  };
};

/** What decides what somebody hears, as a text. */
const rightsOf = async (principal: Principal): Promise<string> => {
  if (principal.kind !== "user") return principal.kind;
  // An admin hears everything, whatever the groups.
  return principal.role === "admin" ? "admin" : `${principal.role} ${(await factsOf(principal)).rights.stamp}`;
};

/** The clients expect plain text here (spec/02 7.3). */
const refused = (reason: string): Response =>
  new Response(`${reason}\n`, { status: 400, headers: { "content-type": "text/plain; charset=utf-8" } });

/**
 * What a principal hears: admins everything; others no messages but those from or to them. An agent hears of its own
 * project; a person of what is theirs and of what they could read when the stream began.
 */
const listener = async (db: Db, principal: Principal): Promise<(event: HubEvent) => boolean> => {
  if (principal.kind === "user" && principal.role === "admin") return () => true;
  if (principal.kind !== "user" && principal.kind !== "agent") return () => false;
  const isParty = (event: HubEvent): boolean => event.parties?.includes(principal.id) === true;
  const isAdministered = ({ entity }: HubEvent): boolean => EVENT_SUBJECTS[entity].does.on === "hub";
  if (principal.kind === "agent")
    return (event) =>
      event.entity === "message" ? isParty(event) : !isAdministered(event) && event.projectId === principal.projectId;
  const { projects, withAgents, agents } = await readableIds(db, {
    projects: await readScope(principal),
    agents: await readScope(principal, "agents"),
  });
  const readable = (ids: ReadonlySet<Uuid>, id: Uuid | undefined): boolean => id !== undefined && ids.has(id);
  return (event) => {
    switch (event.entity) {
      case "message":
        return isParty(event);
      case "agent":
        return (
          event.ownerId === principal.id || readable(withAgents, event.projectId) || readable(agents, event.agentId)
        );
      case "project":
        return event.ownerId === principal.id || readable(projects, event.entityId);
      case "provider":
        return readable(projects, event.projectId);
      case "user":
        return event.entityId === principal.id;
      case "allow_list":
      case "invite":
      case "maintenance":
        return false;
      case "runtime_broker":
        return event.projectId === undefined || readable(projects, event.projectId);
      case "access":
      case "credential":
        return false;
    }
  };
};
