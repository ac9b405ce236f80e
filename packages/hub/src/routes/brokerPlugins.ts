import { HubError, notFound, parseUuid, structuredMessageSchema, type Uuid } from "@rootstock/protocol";
import { agentBySlug, type Db, listProvidedProjects } from "@rootstock/store";
import { z } from "zod";
import { type Answer, type Inbound, pluginNameOf } from "../actions/index.ts";
import { id } from "../wire/index.ts";
import { authenticated } from "./access.ts";
import { plainProjectOf } from "./lookup.ts";
import { toReply } from "./replies.ts";
import { type Call, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/**
 * What the message plugins of runtime brokers call (spec/01 1.8). Both calls reach only into projects that the runtime
 * broker provides for.
 */

export interface PluginDeps {
  readonly db: Db;
  /** Commits the message: 200 when the runtime broker of its agent has acknowledged it, else 202. Undefined: not configured. */
  readonly acceptMessage: ((call: Call, message: Inbound) => Promise<Answer>) | undefined;
}

const MAX_PROJECTS = 500;
const TOPIC = /^scion\.(?:project|grove)\.([^.]+)\.agent\.([^.]+)\.messages$/;

const MAX_NAME = 256;
/** Characters that are not seen, or that turn round what is: one name would be read for another. */
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/u;

/** What a plugin calls somebody of its chat. */
const outsideText = z
  .string()
  .max(MAX_NAME)
  .refine((text) => !UNSEEN.test(text), "must not have characters that are not seen")
  .nullish();

/** Typed as they are, into the agent's terminal, such messages would show nobody from whom they are. */
const never = z.literal(false, "not from outside: the agent would not see from whom it is").nullish();

/**
 * A message from outside. What the hub and agents say of themselves is not said from there, and what only the hub decides,
 * such as whom it is for, goes unread.
 */
const inboundMessage = structuredMessageSchema
  .pick({
    urgent: true,
    attachments: true,
    metadata: true,
    channel: true,
    thread_id: true,
    visibility: true,
  })
  .extend({
    msg: structuredMessageSchema.shape.msg.refine((text) => text !== "", "must not be empty"),
    sender: outsideText,
    sender_id: outsideText,
    recipients: z
      .string()
      .max(4096)
      .refine((text) => !UNSEEN.test(text), "must not have characters that are not seen")
      .nullish(),
    type: z.enum(["instruction", "group-set", "mention", "assistant-reply"]).or(z.literal("")).nullish(),
    plain: never,
    raw: never,
  })
  .refine((m) => !m.thread_id || m.channel, { message: "thread_id needs a channel", path: ["thread_id"] });

const inboundBody = z.object({ topic: z.string().max(1024), message: inboundMessage });

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
      const projects = await listProvidedProjects(deps.db, callerOf(call), { kind: "everything" });
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
    refuses: [
      "not_found",
      "no_runtime_broker",
      "runtime_broker_unavailable",
      "agent_not_running",
      "runtime_error",
      "conflict",
    ],
    handler: async (call) => {
      const runtimeBrokerId = callerOf(call);
      const plugin = pluginNameOf(call.headers.get("x-scion-plugin-name"));
      const agentId = await addressee(deps.db, call, call.body.topic);
      if (!deps.acceptMessage)
        throw new HubError("unavailable", "messages through plugins are not configured on this hub");
      return toReply(await deps.acceptMessage(call, { runtimeBrokerId, agentId, message: call.body.message, plugin }));
    },
  }),
];

/** The agent that the topic names, in a project that the caller provides for. Throws 400, or 404 for any other. */
const addressee = async (db: Db, call: Call, topic: string): Promise<Uuid> => {
  const [, project = "", slug = ""] = TOPIC.exec(topic) ?? [];
  const projectId = parseUuid(project);
  if (projectId === undefined)
    throw new HubError("invalid_request", "the topic must be scion.project.<id>.agent.<slug>.messages", {
      details: { field: "topic" },
    });
  await plainProjectOf(db, { principal: call.principal, params: { projectId }, does: call.does });
  const agent = await agentBySlug(db, projectId, slug);
  if (!agent || agent.deleted_at) throw notFound("Agent");
  return agent.id;
};

const callerOf = (call: Call): Uuid => {
  if (call.principal.kind === "runtimeBroker") return call.principal.id;
  throw new HubError("broker_auth_failed", "only a runtime broker may call this, with its signature");
};
