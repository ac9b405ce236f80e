import { agentTurn, type Operation, requireAgent } from "./operation.ts";
import { readStart, startRecord } from "./startAgent.ts";

/** `POST /api/v1/agents/{a}/restart` (spec/01 4.1): a stop and a start, without the first task. */
export const restartAgent: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/restart",
  turn: agentTurn,
  async run(call, context) {
    const start = readStart(call.request);
    const record = await requireAgent(call, context);
    const stopped = await context.agents.end(record, "stopped");
    return { status: 202, json: await startRecord(stopped, { ...start, task: undefined }, context) };
  },
};
