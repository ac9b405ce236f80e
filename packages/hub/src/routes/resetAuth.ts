import { notFound, parseUuid } from "@rootstock/protocol";
import { authResetById, countAuthResets, listAuthResets } from "@rootstock/store";
import { z } from "zod";
import { type ActionDeps, reportJson, resetAllAuth, resetAuth, resetJson } from "../actions/index.ts";
import { count, id, pageFields, timestamp } from "../wire/index.ts";
import { admins, usersAndAgents } from "./access.ts";
import { listJson, pageQuery } from "./pages.ts";
import { toReply } from "./replies.ts";
import { json, type Route, route } from "./route.ts";
import { targetOf } from "./targets.ts";

/** New tokens for agents, the old ones void (spec/03 6.8). */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;
const ALL = "/api/v1/admin/agents/reset-auth-all";
const SIZES = { usual: 50, max: 200, first: 50 };

const resetFields = {
  id,
  state: z.enum(["finished", "running"]),
  created: timestamp,
  createdBy: z.string().optional(),
  finishedAt: timestamp.optional(),
  total: count,
  pending: count,
  failedCount: count,
};
const resetReply = z.object(resetFields);
const agentsOfReset = z.array(z.object({ id, name: z.string(), error: z.string().optional() })).nullable();
const reportReply = z.object({ ...resetFields, succeeded: agentsOfReset, failed: agentsOfReset });

export const resetAuthRoutes = (deps: ActionDeps): Route[] => {
  const { db } = deps.database;
  return [
    // The CLI calls it below the project, where the original has no such route (weak point 26).
    ...PLACES.map((place) =>
      route({
        method: "POST",
        path: `${place}/:agentId/reset-auth`,
        access: usersAndAgents,
        does: { action: "lifecycle", on: "agent" },
        summary: "Gives an agent a new token, the old one void",
        replies: { 200: z.object({ message: z.string() }), 202: z.object({ message: z.string() }) },
        refuses: ["conflict", "no_runtime_broker", "runtime_broker_unavailable", "runtime_error", "invalid_state"],
        handler: async (call) => toReply(await resetAuth(deps, call, await targetOf(db, call))),
      }),
    ),
    route({
      method: "POST",
      path: ALL,
      access: admins,
      does: { action: "update", on: "hub" },
      summary: "Gives all agents that run new tokens",
      replies: { 200: reportReply, 202: reportReply },
      refuses: ["conflict"],
      handler: async (call) => {
        const answer = await resetAllAuth(deps, call);
        call.log().info({ status: answer.status }, "new tokens for all agents asked for");
        return toReply(answer);
      },
    }),
    route({
      method: "GET",
      path: ALL,
      access: admins,
      does: { action: "read", on: "hub" },
      query: z.object(pageQuery),
      summary: "New tokens for all agents, as far as they have come",
      replies: { 200: z.object({ ...pageFields, items: z.array(resetReply) }) },
      handler: async ({ query }) =>
        json(
          200,
          await listJson({
            list: "auth-resets",
            filters: {},
            given: query,
            sizes: SIZES,
            rows: (page) => listAuthResets(db, page),
            position: (id) => authResetById(db, id),
            count: () => countAuthResets(db),
            as: "items",
            toJson: resetJson,
          }),
        ),
    }),
    route({
      method: "GET",
      path: `${ALL}/:resetId`,
      access: admins,
      does: { action: "read", on: "hub" },
      summary: "How far new tokens for all agents have come",
      replies: { 200: reportReply },
      handler: async ({ params }) => {
        const id = parseUuid(params.resetId ?? "");
        const reset = id && (await authResetById(db, id));
        if (!reset) throw notFound("Reset");
        return json(200, await reportJson(deps, reset));
      },
    }),
  ];
};
