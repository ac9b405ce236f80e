import { HubError, notFound, type Uuid } from "@rootstock/protocol";
import { type AgentPatch, type Db, lockAgentStates, markAgentsSeen, patchAgents, transaction } from "@rootstock/store";
import { z } from "zod";
import { type AgentReport, applyReport, isOfAnotherRun, refreshedStatus } from "../control/index.ts";
import { authenticated } from "./access.ts";
import { text } from "./fields.ts";
import { agentOf } from "./lookup.ts";
import { json, type Route, route } from "./route.ts";

export interface AgentStatusDeps {
  readonly db: Db;
  /** Called after a commit that touched what the change feed shows. */
  readonly changed: () => void;
  /** Called after the commit of the report by which an agent showed that it listens: held messages may go. */
  readonly onAgentReady: (agent: { readonly id: Uuid; readonly runtimeBrokerId: Uuid | null }) => void;
}

const MAX_INT = 2_147_483_647;
const counter = z
  .number()
  .int()
  .min(0)
  .max(MAX_INT)
  .nullish()
  .transform((n) => n ?? undefined);

/** A time that is none says nothing: the rest of the report still counts. */
const startedAt = z
  .string()
  .nullish()
  .transform((given) => {
    const ms = given && /^\d{4}-\d\d-\d\dT/.test(given) ? Date.parse(given) : Number.NaN;
    return ms > 0 ? new Date(ms).toISOString() : undefined;
  });

const LONG = 65_536;

/** `status`, `metadata` and `heartbeat` are sent too; they say nothing that is kept. */
const statusBody = z.object({
  phase: text(64),
  activity: text(64),
  toolName: text(1024),
  message: text(LONG),
  connectionState: text(256),
  containerStatus: text(1024),
  runtimeState: text(1024),
  taskSummary: text(LONG),
  currentTurns: counter,
  currentModelCalls: counter,
  exitCode: z
    .number()
    .int()
    .min(-MAX_INT)
    .max(MAX_INT)
    .nullish()
    .transform((n) => n ?? undefined),
  startedAt,
});

const statusReply = z.object({ applied: z.boolean(), reason: z.literal("reincarnation_in_flight").optional() });

/**
 * Status reports about one agent (spec/02 2.4): by itself, by the runtime broker that runs it, by an admin. The answer
 * has a body because today's tool reads one (spec/08 3).
 */
export const agentStatusRoutes = (deps: AgentStatusDeps): Route[] =>
  ["/api/v1/agents/:agentId/status", "/api/v1/projects/:projectId/agents/:agentId/status"].map((path) =>
    route({
      method: "POST",
      path,
      access: authenticated,
      does: { action: "report", on: "agent" },
      body: statusBody,
      summary: "Reports the status of an agent",
      replies: { 200: statusReply },
      handler: async (call) => {
        const { principal } = call;
        const agent = await agentOf(deps.db, call);
        if (principal.kind === "user" && principal.role !== "admin")
          throw new HubError("forbidden", "agents report their status themselves");
        const source = principal.kind === "runtimeBroker" ? "runtimeBroker" : "agent";
        const runId = principal.kind === "agent" ? principal.runId : undefined;
        const made = await report(deps.db, agent.id, { ...call.body, source, runId });
        if (!made) return json(200, { applied: false, reason: "reincarnation_in_flight" });
        if (Object.keys(made).length > 0) deps.changed();
        if (made.listens) deps.onAgentReady({ id: agent.id, runtimeBrokerId: agent.runtime_broker_id });
        return json(200, { applied: true });
      },
    }),
  );

/**
 * Applies the report in one transaction; returns what it changed, undefined for one that comes too late to count. A mere
 * heartbeat locks nothing.
 */
const report = async (db: Db, id: Uuid, said: AgentReport): Promise<AgentPatch | undefined> => {
  const { source: _, runId: __, ...facts } = said;
  const isHeartbeat = Object.values(facts).every((value) => value === undefined);
  if (isHeartbeat) {
    await markAgentsSeen(db, [{ id }]);
    return {};
  }
  return transaction(db, async (tx) => {
    const [stored] = await lockAgentStates(tx, [id]);
    if (!stored) throw notFound("Agent");
    if (isOfAnotherRun(stored, said)) return undefined;
    const made = applyReport(stored, said);
    if (Object.keys(made).length === 0)
      await markAgentsSeen(tx, [{ id, containerStatus: refreshedStatus(stored, said) }]);
    else await patchAgents(tx, new Map([[id, made]]));
    return made;
  });
};
