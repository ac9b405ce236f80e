import { HubError } from "@rootstock/protocol";
import type { Db, DispatchTarget } from "@rootstock/store";
import { z } from "zod";
import type { MintAgentToken } from "../dispatch/index.ts";
import type { Relay } from "../streams/index.ts";
import { usersAndAgents } from "./access.ts";
import { type Call, json, type Route, route } from "./route.ts";
import { targetOf } from "./targets.ts";

/** What looks or reaches into a container: logs, exec, a new token. Served from any replica (spec/02 2.10, 2.11). */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;

/** Clients give up at 30 s. */
const ANSWER_WITHIN_MS = 25_000;
const MAX_ERROR_TEXT = 2_000;

export interface InsideDeps {
  readonly db: Db;
  readonly relay: Relay;
  readonly mintAgentToken: MintAgentToken;
}

const logsQuery = z.object({
  tail: z.coerce.number().int().min(0).max(1_000_000).optional().catch(undefined),
  since: z.string().optional(),
});
const execBody = z.object({
  command: z.array(z.string().max(32_768)).min(1).max(1_024),
  timeout: z.number().int().min(0).max(3_600).nullish(),
});
const execAnswer = z.object({ output: z.string().nullish(), exitCode: z.number().int().nullish() });

export const agentInsideRoutes = (deps: InsideDeps): Route[] => {
  const ask = async (
    { traceparent }: Pick<Call, "traceparent">,
    target: DispatchTarget,
    what: string,
    request: { method: string; action: string; query?: Record<string, string>; body?: object; timeoutMs?: number },
  ): Promise<string> => {
    const { agent, project, runtimeBroker } = target;
    if (agent.deleted_at) throw new HubError("not_found", "Agent not found");
    if (!runtimeBroker)
      throw new HubError("unavailable", `agent ${agent.slug} has no runtime broker`, { retryAfter: 5 });
    const response = await deps.relay.call(runtimeBroker.id, {
      method: request.method,
      path: `/api/v1/agents/${agent.slug}/${request.action}`,
      query: new URLSearchParams({ ...request.query, projectId: project.id }).toString(),
      timeoutMs: request.timeoutMs ?? ANSWER_WITHIN_MS,
      traceparent,
      ...(request.body && { body: request.body }),
    });
    const text = response.body.toString("utf8");
    if (response.status >= 200 && response.status < 300) return text;
    throw new HubError(
      "runtime_error",
      `Failed to ${what}: runtime broker returned error ${response.status}: ${text.slice(0, MAX_ERROR_TEXT)}`,
      { details: { runtimeBrokerStatus: response.status } },
    );
  };

  return PLACES.flatMap((place) => [
    route({
      method: "GET",
      path: `${place}/:agentId/logs`,
      access: usersAndAgents,
      query: logsQuery,
      handler: async (call) => {
        const target = await targetOf(deps.db, call, "attach");
        const { tail } = call.query;
        const text = await ask(call, target, "read logs", {
          method: "GET",
          action: "logs",
          ...(tail !== undefined && { query: { tail: String(tail) } }),
        });
        return json(200, { logs: text });
      },
    }),
    route({
      method: "POST",
      path: `${place}/:agentId/exec`,
      access: usersAndAgents,
      body: execBody,
      handler: async (call) => {
        const target = await targetOf(deps.db, call, "attach");
        const { command, timeout } = call.body;
        const text = await ask(call, target, "execute command", {
          method: "POST",
          action: "exec",
          body: { command, timeout: timeout ?? 0 },
        });
        const parsed = execAnswer.safeParse(parse(text));
        if (!parsed.success) throw new HubError("runtime_error", "the runtime broker's answer to exec is not valid");
        return json(200, { output: parsed.data.output ?? "", exitCode: parsed.data.exitCode ?? 0 });
      },
    }),
    // The CLI calls it below the project, where the original has no such route (spec/02 2.1).
    route({
      method: "POST",
      path: `${place}/:agentId/reset-auth`,
      access: usersAndAgents,
      handler: async (call) => {
        const target = await targetOf(deps.db, call, "lifecycle");
        const token = await deps.mintAgentToken(target);
        await ask(call, target, "reset authentication", { method: "POST", action: "reset-auth", body: { token } });
        return json(200, { message: `authentication of agent ${target.agent.slug} was reset` });
      },
    }),
  ]);
};

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
