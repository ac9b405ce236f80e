import { notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import {
  type AgentView,
  agentById,
  type Db,
  type DispatchRow,
  dispatchesOfAgent,
  dispatchTraceFacts,
  type MessageRow,
  messageTraceFacts,
  projectRow,
} from "@rootstock/store";
import { z } from "zod";
import { type Principal, principalId } from "../auth/index.ts";
import { dispatchSummary, dispatchTrace, messageTrace, type TraceLimits } from "../trace/index.ts";
import { dispatchSummaryReply, traceReply } from "../wire/index.ts";
import { usersAndAgents } from "./access.ts";
import { Hidden } from "./hidden.ts";
import { agentOf } from "./lookup.ts";
import { agentResource, may, projectResource } from "./rights.ts";
import { type Call, json, type Route, route } from "./route.ts";

export interface TraceDeps {
  readonly db: Db;
  readonly traceLimits: TraceLimits;
}

const MOST_LISTED = 50;

/**
 * Where a message or an operation is (issue: where is my message). A message is shown to whoever sent it, to whom it is
 * addressed, and to whoever may read its agent; an operation to whoever asked for it or may read its agent. To anybody
 * else it does not exist.
 */
export const traceRoutes = ({ db, traceLimits: limits }: TraceDeps): Route[] => {
  const ofDispatch = async (call: Call) => {
    const id = idOf(call, "dispatchId", "Dispatch");
    const found = await dispatchTraceFacts(db, id);
    if (!found) throw notFound("Dispatch");
    if (!(await maySeeDispatch(db, call.principal, found.dispatch))) throw hidden("Dispatch");
    return json(200, dispatchTrace({ ...found, limits }));
  };
  return [
    route({
      method: "GET",
      path: "/api/v1/messages/:messageId/trace",
      access: usersAndAgents,
      does: { action: "read", on: "agent" },
      summary: "Where a message has been, why it waits, and what comes next",
      replies: { 200: traceReply },
      handler: async (call) => {
        const found = await messageTraceFacts(db, idOf(call, "messageId", "Message"));
        if (!found) throw notFound("Message");
        const agent = await agentFor(db, found.message.agent_id);
        if (!(await maySeeMessage(db, call.principal, found.message, agent))) throw hidden("Message");
        return json(200, messageTrace({ ...found, agent, limits }));
      },
    }),
    ...["/api/v1/dispatches/:dispatchId", "/api/v1/dispatches/:dispatchId/trace"].map((path) =>
      route({
        method: "GET",
        path,
        access: usersAndAgents,
        does: { action: "read", on: "agent" },
        summary: "Where an operation has been, why it waits, and what comes next",
        replies: { 200: traceReply },
        handler: ofDispatch,
      }),
    ),
    route({
      method: "GET",
      path: "/api/v1/agents/:agentId/dispatches",
      access: usersAndAgents,
      does: { action: "read", on: "agent" },
      summary: "The latest operations on an agent",
      replies: { 200: z.object({ dispatches: z.array(dispatchSummaryReply) }) },
      handler: async (call) => {
        const agent = await agentOf(db, call);
        const dispatches = await dispatchesOfAgent(db, agent.id, MOST_LISTED);
        return json(200, { dispatches: dispatches.map(dispatchSummary) });
      },
    }),
  ];
};

const hidden = (what: string) => Hidden.at(what, "neither a party to it nor a reader of its agent");

const idOf = (call: Pick<Call, "params">, name: string, what: string): Uuid => {
  const id = parseUuid(call.params[name] ?? "");
  if (id === undefined) throw notFound(what);
  return id;
};

const agentFor = async (db: Db, id: Uuid | null): Promise<AgentView | undefined> =>
  id === null ? undefined : agentById(db, id);

const maySeeMessage = async (
  db: Db,
  principal: Principal,
  message: MessageRow,
  agent: AgentView | undefined,
): Promise<boolean> => {
  const own = principalId(principal);
  if (own !== undefined && (message.sender_id === own || message.recipient_id === own)) return true;
  // What was said to a person is theirs and the sender's; whoever may read the agent sees what it was sent.
  if (message.state === null) return principal.kind === "user" && principal.role === "admin";
  return agent ? may(principal, "read", agentResource(agent)) : ownsProject(db, principal, message.project_id);
};

const maySeeDispatch = async (db: Db, principal: Principal, dispatch: DispatchRow): Promise<boolean> => {
  const own = principalId(principal);
  if (own !== undefined && dispatch.created_by === own) return true;
  const agent = await agentFor(db, dispatch.agent_id);
  return agent ? may(principal, "read", agentResource(agent)) : ownsProject(db, principal, dispatch.project_id);
};

/** What is left of an agent that is gone belongs to whoever its project belongs to. */
const ownsProject = async (db: Db, principal: Principal, projectId: Uuid | null): Promise<boolean> => {
  const project = projectId === null ? undefined : await projectRow(db, projectId);
  if (!project) return principal.kind === "user" && principal.role === "admin";
  return may(principal, "update", projectResource(project));
};
