import { z } from "zod";
import { parseBody } from "../tunnel/request.ts";
import { type Operation, requireAgent } from "./operation.ts";

const DEFAULT_TIMEOUT_S = 60;
/** What the hub lets through. */
const MAX_TIMEOUT_S = 3_600;

const body = z.object({
  command: z.array(z.string()).min(1, "is required"),
  timeout: z.number().min(0).max(MAX_TIMEOUT_S).nullish(),
});

/**
 * `POST /api/v1/agents/{a}/exec` (spec/01 4.1): runs a command beside the agent, with its environment. A command that fails
 * is a result, with its exit code; the original makes a 500 of it.
 */
export const execInAgent: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/exec",
  async run(call, context) {
    const { command, timeout } = parseBody(call.request, body);
    const record = await requireAgent(call, context);
    const timeoutMs = (timeout || DEFAULT_TIMEOUT_S) * 1000;
    const result = await context.agents.runtime.exec(context.agents.place(record), command, timeoutMs);
    return { status: 200, json: { output: result.output, exitCode: result.exitCode } };
  },
};
