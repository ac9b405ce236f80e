import { z } from "zod";
import { agentKey } from "../agents/agentRecord.ts";
import { BrokerApiError } from "../tunnel/errors.ts";
import { parseBody, textMap } from "../tunnel/request.ts";
import { startCreated } from "./createAgent.ts";
import type { Operation } from "./operation.ts";

const body = z.object({ env: textMap });

/**
 * `POST /api/v1/agents/{agentId}/finalize-env` (spec/01 4.4): the values that a create was waiting for. The whole create is
 * taken up again; the original forgets parts of it here.
 */
export const finalizeEnv: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/finalize-env",
  turn: ({ params }) => `pending:${params.agent ?? ""}`,
  async run({ request, params }, context) {
    const agentId = params.agent ?? "";
    const { env } = parseBody(request, body);
    const pending = await context.pending.get(agentId);
    if (!pending) throw new BrokerApiError("not_found", "nothing is pending for this agent");
    const payload = { ...pending, resolvedEnv: { ...pending.resolvedEnv, ...env } };
    const key = agentKey(payload.projectId, payload.slug ?? payload.name);
    // A failure leaves it pending: the call may be repeated.
    const answer = await context.agents.turns.run(key, () => startCreated(payload, context));
    await context.pending.remove(agentId);
    return answer;
  },
};
