import { phaseOf } from "../agents/agentView.ts";
import { projectOf } from "../tunnel/request.ts";
import { agentTurn, type Operation, requireAgent } from "./operation.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;

/** `GET /api/v1/agents` (spec/01 4.1). */
export const listAgents: Operation = {
  method: "GET",
  path: "/api/v1/agents",
  async run({ request }, { agents }) {
    const projectId = projectOf(request);
    const status = request.query.get("status");
    const asked = Number(request.query.get("limit") ?? "");
    const limit = Number.isInteger(asked) && asked > 0 ? Math.min(asked, MAX_LIMIT) : DEFAULT_LIMIT;
    const records = agents.store.all().filter((record) => projectId === "" || record.projectId === projectId);
    const sessions = await agents.sessions(records);
    const found = records.filter((record) => !status || phaseOf(record, sessions.get(record.key)) === status);
    const views = found.slice(0, limit).map((record) => agents.view(record, sessions.get(record.key)));
    return { status: 200, json: { agents: views, totalCount: found.length } };
  },
};

/**
 * `GET /api/v1/agents/{a}`. In its turn: the hub asks so what became of a start whose answer it did not get, and would begin
 * one again that is under way still.
 */
export const getAgent: Operation = {
  method: "GET",
  path: "/api/v1/agents/:agent",
  turn: agentTurn,
  async run(call, context) {
    const record = await requireAgent(call, context);
    return { status: 200, json: context.agents.view(record, await context.agents.session(record)) };
  },
};

/** `GET /api/v1/agents/{a}/has-prompt`: whether the first start has a task without being given one. */
export const hasPrompt: Operation = {
  method: "GET",
  path: "/api/v1/agents/:agent/has-prompt",
  async run(call, context) {
    const record = await requireAgent(call, context);
    return { status: 200, json: { hasPrompt: record.task !== "" } };
  },
};
