import { z } from "zod";
import { BrokerApiError } from "../tunnel/errors.ts";
import { parseBody } from "../tunnel/request.ts";
import { agentTurn, type Operation, requireAgent } from "./operation.ts";

const body = z.object({
  token: z
    .string({ error: "is required" })
    .min(1, "is required")
    .max(32_768)
    .regex(/^[\x21-\x7e]+$/, "must be one line of printable characters"),
});

/** `POST /api/v1/agents/{a}/reset-auth` (spec/01 4.1): a new token for a running agent. */
export const resetAuth: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/reset-auth",
  turn: agentTurn,
  async run(call, context) {
    const { token } = parseBody(call.request, body);
    const record = await requireAgent(call, context);
    const session = await context.agents.session(record);
    if (session?.status !== "running") throw new BrokerApiError("agent_not_running", "the agent is not running");
    const announced = await context.agents.replaceToken(record, token);
    const message = announced
      ? "Auth reset: token written and announced"
      : "Auth reset: token written; the agent will find it by itself";
    return { status: 200, json: { message } };
  },
};
