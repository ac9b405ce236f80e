import { notFound, parseUuid } from "@rootstock/protocol";
import { z } from "zod";
import type { Heartbeat, HeartbeatIntake } from "../control/index.ts";
import { runtimeBrokers } from "./access.ts";
import { text } from "./fields.ts";
import { type Route, route } from "./route.ts";
import { demandSelf } from "./runtimeBrokerRights.ts";
import { NO_BODY } from "./shapes.ts";

export interface HeartbeatDeps {
  readonly heartbeats: Pick<HeartbeatIntake, "beat">;
}

/** A runtime broker lists every agent that it knows, twice: by the names of older and of today's hubs. */
const MAX_BODY_BYTES = 4_194_304;
const MAX_INT = 2_147_483_647;

const agentBody = z.object({
  slug: z.string().max(256),
  phase: text(64),
  activity: text(64),
  containerStatus: text(1024),
  message: text(65_536),
  harnessAuth: text(256),
  profile: text(256),
  exitCode: z.number().int().min(-MAX_INT).max(MAX_INT).nullish(),
  exitReason: text(1024),
});

const projectBody = z.object({
  projectId: text(256),
  groveId: text(256),
  agents: z.array(agentBody).max(20_000).nullish(),
});
type ProjectBody = z.output<typeof projectBody>;

const projectList = z.array(projectBody).max(20_000).nullish();

const heartbeatBody = z.object({
  status: z
    .enum(["online", "offline", "degraded"])
    .or(z.literal(""))
    .nullish()
    .transform((s) => s || "online"),
  projects: projectList,
  groves: projectList,
  capabilities: z.record(z.string().max(256), z.unknown()).nullish(),
});

/** What a runtime broker says of itself and of its agents every 30 s, over HTTP, at any replica (spec/01 section 5). */
export const heartbeatRoutes = (deps: HeartbeatDeps): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/runtime-brokers/:brokerId/heartbeat",
    access: runtimeBrokers,
    does: { action: "report", on: "self" },
    maxBodyBytes: MAX_BODY_BYTES,
    quiet: true,
    body: heartbeatBody,
    summary: "A runtime broker says how it and its agents are",
    replies: { 200: NO_BODY },
    handler: async (call) => {
      const runtimeBrokerId = demandSelf(call);
      const { status, projects, groves, capabilities } = call.body;
      const known = await deps.heartbeats.beat({
        runtimeBrokerId,
        status,
        capabilities: capabilities ?? undefined,
        agents: (projects ?? groves ?? []).flatMap(agentsOf),
      });
      if (!known) throw notFound("Runtime broker");
      return new Response(null, { status: 200 });
    },
  }),
];

/** A project named otherwise than by its id is a container whose labels are lost: nobody knows whose it is. */
const agentsOf = (project: ProjectBody): Heartbeat["agents"] => {
  const projectId = parseUuid(project.projectId ?? project.groveId ?? "");
  if (projectId === undefined) return [];
  return (project.agents ?? []).map((a) => ({
    projectId,
    slug: a.slug,
    report: {
      source: "runtimeBroker",
      phase: a.phase,
      activity: a.activity,
      containerStatus: a.containerStatus,
      message: a.message ?? (a.exitCode ? a.exitReason : undefined),
      harnessAuth: a.harnessAuth,
      profile: a.profile,
      exitCode: a.exitCode ?? undefined,
    },
  }));
};
