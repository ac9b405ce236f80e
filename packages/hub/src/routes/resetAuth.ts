import { notFound, parseUuid } from "@rootstock/protocol";
import { authResetById, countAuthResets, listAuthResets } from "@rootstock/store";
import { z } from "zod";
import { type ActionDeps, reportJson, resetAllAuth, resetAuth, resetJson } from "../actions/index.ts";
import { admins, usersAndAgents } from "./access.ts";
import { listJson, pageQuery } from "./pages.ts";
import { toReply } from "./replies.ts";
import { json, type Route, route } from "./route.ts";
import { targetOf } from "./targets.ts";

/** New tokens for agents, the old ones void (spec/03 6.8). */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;
const ALL = "/api/v1/admin/agents/reset-auth-all";
const SIZES = { usual: 50, max: 200, first: 50 };

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
        handler: async (call) => toReply(await resetAuth(deps, call, await targetOf(db, call))),
      }),
    ),
    route({
      method: "POST",
      path: ALL,
      access: admins,
      does: { action: "update", on: "hub" },
      handler: async (call) => {
        const answer = await resetAllAuth(deps, call);
        call.log.info({ status: answer.status }, "new tokens for all agents asked for");
        return toReply(answer);
      },
    }),
    route({
      method: "GET",
      path: ALL,
      access: admins,
      does: { action: "read", on: "hub" },
      query: z.object(pageQuery),
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
      handler: async ({ params }) => {
        const id = parseUuid(params.resetId ?? "");
        const reset = id && (await authResetById(db, id));
        if (!reset) throw notFound("Reset");
        return json(200, await reportJson(deps, reset));
      },
    }),
  ];
};
