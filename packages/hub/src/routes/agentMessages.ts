import { invalidField, type StructuredMessageInput, structuredMessageSchema } from "@rootstock/protocol";
import { z } from "zod";
import {
  type ActionDeps,
  broadcast,
  isPlain,
  parseSet,
  sendMessage,
  sendToPerson,
  sendToRemembered,
  sendToSet,
} from "../actions/index.ts";
import { count, id } from "../wire/index.ts";
import { agents, usersAndAgents } from "./access.ts";
import { agentOf, plainProjectOf } from "./lookup.ts";
import { toReply } from "./replies.ts";
import { type Route, route } from "./route.ts";
import { rememberedTargetOf, targetOf } from "./targets.ts";

/** Messages to agents, to sets and projects, and from agents to people (spec/02 2.9, 2.11). */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;

const flag = z.boolean().nullish();

const messageBody = z.object({
  message: structuredMessageSchema.shape.msg.nullish(),
  structured_message: structuredMessageSchema.nullish(),
  interrupt: flag,
  notify: flag,
  wake: flag,
  queue: flag,
});

const broadcastBody = z.object({ structured_message: structuredMessageSchema, interrupt: flag, queue: flag });

const outboundBody = z.object({
  recipient: z.string().max(512).nullish(),
  recipient_id: z.string().max(512).nullish(),
  msg: structuredMessageSchema.shape.msg.refine((m) => m !== "", "must not be empty"),
  type: structuredMessageSchema.shape.type,
  urgent: flag,
  attachments: structuredMessageSchema.shape.attachments,
  channel: structuredMessageSchema.shape.channel,
  thread_id: structuredMessageSchema.shape.thread_id,
  visibility: structuredMessageSchema.shape.visibility,
  metadata: structuredMessageSchema.shape.metadata.catch(undefined),
});

const sentReply = z.object({
  message_id: id,
  agent: z.string(),
  agent_phase: z.string(),
  status: z.enum(["delivered", "pending"]),
  state: z.enum(["dispatched", "pending"]),
  reason: z.string().optional(),
});
const manyReply = z.object({
  group_id: z.string(),
  status: z.literal("accepted"),
  total: count,
  targeted: count,
  skipped: count,
  delivered: count,
  failed: count,
  results: z.array(
    z.object({
      recipient: z.string(),
      status: z.enum(["delivered", "deferred", "failed"]),
      message_id: id.optional(),
      error: z.string().optional(),
    }),
  ),
});
const toPersonReply = z.object({
  message_id: id,
  status: z.literal("delivered"),
  recipient: z.string(),
  recipient_id: id,
});

/** What a message to an agent may come to. */
const REFUSES = [
  "agent_not_running",
  "conflict",
  "no_runtime_broker",
  "raw_input_removed",
  "runtime_broker_unavailable",
  "runtime_error",
] as const;

const inputOf = (body: z.output<typeof messageBody>): StructuredMessageInput => {
  if (body.structured_message) return body.structured_message;
  if (typeof body.message === "string") return { msg: body.message };
  throw invalidField("structured_message", "structured_message or message is required");
};

export const agentMessageRoutes = (deps: ActionDeps): Route[] => {
  const { db } = deps.database;
  return [
    ...PLACES.flatMap((place) => [
      route({
        method: "POST",
        path: `${place}/:agentId/message`,
        access: usersAndAgents,
        does: { action: "message", on: "agent" },
        accessTokens: true,
        body: messageBody,
        summary: "Sends a message to an agent, or to a set",
        replies: { 200: [sentReply, manyReply], 202: sentReply },
        refuses: REFUSES,
        handler: async (call) => {
          const { body } = call;
          const message = inputOf(body);
          const { targets } = deps.courier;
          const options = { message, interrupt: body.interrupt === true, queue: body.queue === true };
          const request = { ...options, notify: body.notify === true, wake: body.wake === true };
          const elements = parseSet(message.recipient);
          if (!elements && isPlain(deps, call, request)) {
            const remembered = await rememberedTargetOf(db, call, targets.remembered);
            const answer = remembered && (await sendToRemembered(deps, call, remembered, request));
            if (answer) return toReply(answer);
          }
          const target = await targetOf(db, call, targets);
          if (elements)
            return toReply(await sendToSet(deps, call, { ...options, elements, projectId: target.project.id }));
          return toReply(await sendMessage(deps, call, target, request));
        },
      }),
      route({
        method: "POST",
        path: `${place}/:agentId/outbound-message`,
        access: agents,
        does: { action: "report", on: "agent" },
        body: outboundBody,
        summary: "An agent writes to a person",
        replies: { 200: toPersonReply },
        handler: async (call) => {
          const { body } = call;
          const agent = await agentOf(db, call);
          return toReply(
            await sendToPerson(deps, call, agent, {
              recipient: body.recipient_id || body.recipient || undefined,
              message: { ...body, type: body.type || "input-needed" },
            }),
          );
        },
      }),
    ]),
    route({
      method: "POST",
      path: "/api/v1/projects/:projectId/broadcast",
      access: usersAndAgents,
      does: { action: "broadcast", on: "agent" },
      body: broadcastBody,
      summary: "Sends a message to every running agent of a project",
      replies: { 200: manyReply },
      refuses: REFUSES,
      handler: async (call) => {
        const { id } = await plainProjectOf(db, call);
        return toReply(
          await broadcast(deps, call, {
            projectId: id,
            message: call.body.structured_message,
            interrupt: call.body.interrupt === true,
            queue: call.body.queue === true,
          }),
        );
      },
    }),
  ];
};
