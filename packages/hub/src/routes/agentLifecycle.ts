import { notFound, parseUuid } from "@rootstock/protocol";
import { projectRow } from "@rootstock/store";
import { z } from "zod";
import {
  type ActionDeps,
  type CreateAgentRequest,
  changeLifecycle,
  createAgent,
  createAgentSchema,
  deleteAgent,
  haltRemembered,
  isHaltVerb,
  restoreDeleted,
  stopAll,
  submitEnv,
  type Verb,
} from "../actions/index.ts";
import type { Action } from "../auth/index.ts";
import { agentReply, anyObject, count, id } from "../wire/index.ts";
import { users, usersAndAgents } from "./access.ts";
import { plainProjectOf } from "./lookup.ts";
import { toReply } from "./replies.ts";
import { type Call, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";
import { rememberedTargetOf, targetOf } from "./targets.ts";

/** Creating agents, and the verbs on them (spec/02 2.1, 2.6–2.8). */

/** The two places where an agent is addressed. */
const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;

const VERBS: readonly Verb[] = ["start", "stop", "suspend", "resume", "restart"];
/** What each verb is to the access decision; a restart is both. */
const VERB_ACTIONS: Readonly<Record<Verb, Action>> = {
  start: "start",
  stop: "stop",
  suspend: "stop",
  resume: "start",
  restart: "lifecycle",
};

const startBody = z.object({ task: z.string().max(262_144).nullish() });

const flag = z.string().optional();
const deleteQuery = z.object({ deleteFiles: flag, removeBranch: flag, force: flag });

const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, "is no name of an environment variable");
const envBody = z.object({ env: z.record(envName, z.string().max(65_536)) });

const withAgent = z.object({ agent: agentReply, warnings: z.array(z.string()).optional() });
const gatherReply = z.object({ agent: agentReply, envGather: anyObject });
const verbReply = agentReply.extend({ warnings: z.array(z.string()).optional() });
const deletingReply = z.object({
  agentId: id,
  deletion: z.object({ state: z.literal("deleting"), soft: z.boolean(), claim: id }),
});
const restoreReply = agentReply.omit({ appliedConfig: true }).extend({ detail: anyObject.optional() });
const stopAllReply = z.object({
  stopped: count,
  failed: count,
  total: count,
  scope: z.enum(["all", "own"]),
  results: z.array(
    z.object({ id, name: z.string(), status: z.enum(["stopped", "error"]), error: z.string().optional() }),
  ),
});

/** What any call to a runtime broker about an agent may come to. */
const REFUSES = [
  "conflict",
  "no_runtime_broker",
  "runtime_broker_unavailable",
  "runtime_error",
  "invalid_state",
] as const;
const CREATE_REFUSES = [...REFUSES, "not_found", "invalid_name", "missing_env_vars", "unprocessable"] as const;

export const agentLifecycleRoutes = (deps: ActionDeps): Route[] => {
  const { db } = deps.database;

  const create = async (call: Call<unknown, CreateAgentRequest>, projectId: string) => {
    const { principal } = call;
    if (principal.kind !== "user" && principal.kind !== "agent") throw notFound("Project");
    const { id } = await plainProjectOf(db, { principal, params: { projectId }, does: call.does });
    const project = await projectRow(db, id);
    if (!project) throw notFound("Project");
    return toReply(await createAgent(deps, { ...call, principal }, project, call.body));
  };

  return [
    route({
      method: "POST",
      path: "/api/v1/agents",
      access: usersAndAgents,
      limited: "create",
      does: { action: "create", on: "agent" },
      accessTokens: true,
      body: createAgentSchema.refine((b) => parseUuid(b.projectId || b.groveId || "") !== undefined, {
        path: ["projectId"],
        message: "must be the id of a project",
      }),
      summary: "Creates an agent and starts it",
      replies: { 200: withAgent, 201: withAgent, 202: gatherReply },
      refuses: CREATE_REFUSES,
      handler: (call) => create(call, call.body.projectId || call.body.groveId || ""),
    }),
    route({
      method: "POST",
      path: "/api/v1/projects/:projectId/agents",
      access: usersAndAgents,
      limited: "create",
      does: { action: "create", on: "agent" },
      accessTokens: true,
      body: createAgentSchema,
      summary: "Creates an agent in a project and starts it",
      replies: { 200: withAgent, 201: withAgent, 202: gatherReply },
      refuses: CREATE_REFUSES,
      handler: (call) => create(call, call.params.projectId ?? ""),
    }),
    route({
      method: "POST",
      path: "/api/v1/projects/:projectId/agents/:agentId/env",
      access: usersAndAgents,
      does: { action: "lifecycle", on: "agent" },
      body: envBody,
      summary: "Supplies the values that a created agent waits for",
      replies: { 200: withAgent, 202: gatherReply },
      refuses: [...REFUSES, "missing_env_vars"],
      handler: async (call) => toReply(await submitEnv(deps, call, await targetOf(db, call), call.body.env)),
    }),
    route({
      method: "POST",
      path: "/api/v1/agents/stop-all",
      access: users,
      does: { action: "stopAll", on: "agent" },
      summary: "Stops every running agent that the caller may stop",
      replies: { 200: stopAllReply },
      handler: async (call) => toReply(await stopAll(deps, call, null)),
    }),
    route({
      method: "POST",
      path: "/api/v1/projects/:projectId/agents/stop-all",
      access: users,
      does: { action: "stopAll", on: "agent" },
      summary: "Stops every running agent of a project",
      replies: { 200: stopAllReply },
      handler: async (call) => toReply(await stopAll(deps, call, (await plainProjectOf(db, call)).id)),
    }),
    ...PLACES.flatMap((place) => [
      ...VERBS.map((verb) =>
        route({
          method: "POST",
          path: `${place}/:agentId/${verb}`,
          access: usersAndAgents,
          does: { action: VERB_ACTIONS[verb], on: "agent" },
          accessTokens: true,
          body: startBody,
          summary: `Makes an agent ${verb}`,
          replies: { 200: verbReply, 202: verbReply },
          refuses: [...REFUSES, "missing_env_vars"],
          handler: async (call) => {
            const { targets } = deps.courier;
            if (isHaltVerb(verb)) {
              const remembered = await rememberedTargetOf(db, call, targets.remembered);
              const answer = remembered && (await haltRemembered(deps, call, remembered, verb));
              if (answer) return toReply(answer);
            }
            const task = call.body.task ?? undefined;
            return toReply(await changeLifecycle(deps, call, await targetOf(db, call, targets), verb, { task }));
          },
        }),
      ),
      route({
        method: "DELETE",
        path: `${place}/:agentId`,
        access: usersAndAgents,
        does: { action: "delete", on: "agent" },
        accessTokens: true,
        query: deleteQuery,
        summary: "Deletes an agent",
        replies: { 202: deletingReply, 204: NO_BODY },
        refuses: REFUSES,
        handler: async (call) =>
          toReply(
            await deleteAgent(deps, call, await targetOf(db, call), {
              // Only the literal `false` switches these off (spec/02 2.7).
              deleteFiles: call.query.deleteFiles !== "false",
              removeBranch: call.query.removeBranch !== "false",
              force: call.query.force === "true",
            }),
          ),
      }),
      route({
        method: "POST",
        path: `${place}/:agentId/restore`,
        access: usersAndAgents,
        does: { action: "lifecycle", on: "agent" },
        summary: "Restores a deleted agent",
        replies: { 200: restoreReply },
        refuses: REFUSES,
        handler: async (call) => toReply(await restoreDeleted(deps, call, await targetOf(db, call))),
      }),
    ]),
  ];
};
