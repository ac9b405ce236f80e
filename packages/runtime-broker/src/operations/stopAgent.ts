import { projectOf } from "../tunnel/request.ts";
import { agentTurn, type Operation } from "./operation.ts";

const end = (path: string, phase: "stopped" | "suspended"): Operation => ({
  method: "POST",
  path,
  turn: agentTurn,
  async run({ request, params }, { agents }) {
    // One that is not known or not running is as stopped as it can be: success (spec/01 4.1).
    const record = agents.store.find(params.agent ?? "", projectOf(request));
    if (record) await agents.end(record, phase);
    return { status: 202, json: { status: "accepted", message: "Stop operation accepted" } };
  },
});

/** `POST /api/v1/agents/{a}/stop`. */
export const stopAgent = end("/api/v1/agents/:agent/stop", "stopped");

/** `POST /api/v1/agents/{a}/suspend`: a stop that the next start resumes from. */
export const suspendAgent = end("/api/v1/agents/:agent/suspend", "suspended");
