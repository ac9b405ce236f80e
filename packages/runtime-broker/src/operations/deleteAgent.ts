import { agentTurn, type Operation, requireAgent } from "./operation.ts";
import { removeAgent } from "./removeAgent.ts";

/**
 * `DELETE /api/v1/agents/{a}` (spec/01 4.1). With `deleteFiles=false` the work stays where it is. A soft delete is no
 * different here: what can be restored is the hub's record, and the next start provisions anew (as in the original).
 */
export const deleteAgent: Operation = {
  method: "DELETE",
  path: "/api/v1/agents/:agent",
  turn: agentTurn,
  async run(call, context) {
    const record = await requireAgent(call, context);
    const keepFiles = call.request.query.get("deleteFiles") === "false";
    await removeAgent(record, context, { keepWorkspace: keepFiles });
    return { status: 204 };
  },
};
