import {
  HubError,
  notFound,
  parseUuid,
  type StructuredMessageInput,
  structuredMessageSchema,
  type Uuid,
} from "@rootstock/protocol";
import { agentBySlug, type Db, listProvidedProjects } from "@rootstock/store";
import { z } from "zod";
import { id } from "../wire/index.ts";
import { authenticated } from "./access.ts";
import { plainProjectOf } from "./lookup.ts";
import { type Call, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/**
 * What the message plugins of runtime brokers call (spec/01 1.8). Both calls reach only into projects that the runtime
 * broker provides for.
 */

/** A message that came in through a plugin, for an agent that the runtime broker may address. */
export interface InboundMessage {
  readonly runtimeBrokerId: Uuid;
  readonly projectId: Uuid;
  readonly agentId: Uuid;
  readonly message: StructuredMessageInput;
  /** What the plugin calls itself. */
  readonly plugin: string | undefined;
}

export interface PluginDeps {
  readonly db: Db;
  /** Commits the message. `delivered`: the runtime broker has acknowledged it already. Undefined: not configured. */
  readonly acceptMessage: ((message: InboundMessage) => Promise<{ readonly delivered: boolean }>) | undefined;
}

const MAX_PROJECTS = 500;
const TOPIC = /^scion\.(?:project|grove)\.([^.]+)\.agent\.([^.]+)\.messages$/;

const inboundBody = z.object({ topic: z.string().max(1024), message: structuredMessageSchema });

const projectsReply = z.object({ projects: z.array(z.object({ id, name: z.string(), slug: z.string() })) });
const inboundReply = z.object({ delivered: z.literal(true), agentId: id });

export const brokerPluginRoutes = (deps: PluginDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/broker/projects",
    access: authenticated,
    does: { action: "list", on: "project" },
    summary: "Projects into which a runtime broker's plugins may send",
    replies: { 200: projectsReply },
    handler: async (call) => {
      const projects = await listProvidedProjects(deps.db, callerOf(call));
      return json(200, {
        projects: projects.slice(0, MAX_PROJECTS).map((p) => ({ id: p.id, name: p.name, slug: p.slug || p.name })),
      });
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/broker/inbound",
    access: authenticated,
    does: { action: "message", on: "project" },
    body: inboundBody,
    summary: "A message that came in through a plugin",
    replies: { 200: inboundReply, 202: NO_BODY },
    refuses: ["not_found", "runtime_broker_unavailable", "agent_not_running", "runtime_error", "conflict"],
    handler: async (call) => {
      const runtimeBrokerId = callerOf(call);
      const [, project = "", slug = ""] = TOPIC.exec(call.body.topic) ?? [];
      const projectId = parseUuid(project);
      if (projectId === undefined)
        throw new HubError("invalid_request", "the topic must be scion.project.<id>.agent.<slug>.messages", {
          details: { field: "topic" },
        });
      await plainProjectOf(deps.db, { principal: call.principal, params: { projectId }, does: call.does });
      const agent = await agentBySlug(deps.db, projectId, slug);
      if (!agent || agent.deleted_at) throw notFound("Agent");
      if (!deps.acceptMessage)
        throw new HubError("unavailable", "messages through plugins are not configured on this hub");
      const { delivered } = await deps.acceptMessage({
        runtimeBrokerId,
        projectId,
        agentId: agent.id,
        message: call.body.message,
        plugin: call.headers.get("x-scion-plugin-name") ?? undefined,
      });
      return delivered ? json(200, { delivered: true, agentId: agent.id }) : new Response(null, { status: 202 });
    },
  }),
];

const callerOf = (call: Call): Uuid => {
  if (call.principal.kind === "runtimeBroker") return call.principal.id;
  throw new HubError("broker_auth_failed", "only a runtime broker may call this, with its signature");
};
