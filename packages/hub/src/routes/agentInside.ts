import { HubError } from "@rootstock/protocol";
import { type Db, recordAudit } from "@rootstock/store";
import { z } from "zod";
import type { Relay } from "../streams/index.ts";
import { usersAndAgents } from "./access.ts";
import { askInside, runtimeBrokerOf } from "./insideCall.ts";
import { json, type Route, route } from "./route.ts";
import { targetOf } from "./targets.ts";

/** What reaches into a container: exec. Served from any replica (spec/02 2.10). */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;

export interface InsideDeps {
  readonly db: Db;
  readonly relay: Relay;
}

const execBody = z.object({
  command: z.array(z.string().max(32_768)).min(1).max(1_024),
  timeout: z.number().int().min(0).max(3_600).nullish(),
});
const execAnswer = z.object({ output: z.string().nullish(), exitCode: z.number().int().nullish() });

const execReply = z.object({ output: z.string(), exitCode: z.int() });

export const agentInsideRoutes = (deps: InsideDeps): Route[] =>
  PLACES.flatMap((place) => [
    route({
      method: "POST",
      path: `${place}/:agentId/exec`,
      access: usersAndAgents,
      does: { action: "attach", on: "agent" },
      accessTokens: true,
      body: execBody,
      summary: "Runs a command in the container of an agent",
      replies: { 200: execReply },
      refuses: ["no_runtime_broker", "runtime_broker_unavailable", "runtime_error", "conflict"],
      handler: async (call) => {
        const target = await targetOf(deps.db, call);
        const { command, timeout } = call.body;
        runtimeBrokerOf(target);
        // Before it runs: what cannot be recorded does not happen. What it says may hold anything, so it is not told.
        await recordAudit(deps.db, {
          action: "command_run",
          targetType: "agent",
          targetId: target.agent.id,
          targetName: target.agent.slug,
          projectId: target.project.id,
        });
        const text = await askInside(deps.relay, target, {
          what: "execute command",
          method: "POST",
          action: "exec",
          traceparent: call.traceparent,
          body: { command, timeout: timeout ?? 0 },
        });
        const parsed = execAnswer.safeParse(parse(text));
        if (!parsed.success) throw new HubError("runtime_error", "the runtime broker's answer to exec is not valid");
        return json(200, { output: parsed.data.output ?? "", exitCode: parsed.data.exitCode ?? 0 });
      },
    }),
  ]);

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
