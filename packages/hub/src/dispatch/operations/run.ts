import type { Phase } from "@rootstock/protocol";
import { beginRun, findAgent } from "@rootstock/store";
import type { OperationContext, OperationResult } from "./operation.ts";

/**
 * Opens the run of this operation, or finds it open from an attempt before: then what the container has reported since
 * stays. Undefined when the agent was deleted.
 */
export const openRun = async (
  context: OperationContext,
  phase: "provisioning" | "starting",
): Promise<OperationContext | undefined> => {
  const agentId = context.target.agent.id;
  const opened = await beginRun(context.db, { agentId, runId: context.id, phase });
  const agent = opened ?? (await findAgent(context.db, agentId));
  if (!agent || agent.deleted_at) return undefined;
  return { ...context, target: { ...context.target, agent } };
};

/** Where an agent returns to when it could not be launched. */
export const previousPhase = (context: OperationContext): Phase => {
  const { phase } = context.target.agent;
  return phase === "stopped" || phase === "suspended" || phase === "created" ? phase : "error";
};

/** The agent was deleted before its turn came. */
export const gone = (): OperationResult => ({
  ok: false,
  failure: { code: "not_found", message: "agent not found: it was deleted meanwhile" },
  settle: async () => {},
});
