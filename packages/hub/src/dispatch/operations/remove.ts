import { deleteAgentRows, failWaitingMessages, leaveEndedMessages, softDeleteAgent } from "@rootstock/store";
import type { Operation } from "./operation.ts";
import { agentPath, callRuntimeBroker, projectQuery, runtimeFailure } from "./tunnel.ts";

/** Deletes an agent at its runtime broker, then hides or removes its record. Unknown there is as good as deleted. */
export const remove: Operation = async (context) => {
  const { args, target } = context;
  const softDelete = args.softDelete === true;
  const deletedAt = typeof args.deletedAt === "string" ? new Date(args.deletedAt) : new Date(context.clock.now());
  const answer = await callRuntimeBroker(context, {
    method: "DELETE",
    path: agentPath(context),
    query: {
      deleteFiles: String(args.deleteFiles !== false),
      removeBranch: String(args.removeBranch !== false),
      ...projectQuery(context),
      ...(softDelete && { softDelete: "true", deletedAt: deletedAt.toISOString() }),
    },
  });
  const removed = (answer.status >= 200 && answer.status < 300) || answer.status === 404;
  if (!removed && args.force !== true)
    return { ok: false, failure: runtimeFailure("delete agent", answer), settle: async () => {} };
  if (!softDelete) {
    await failWaitingMessages(context.db, [target.agent.id]);
    await leaveEndedMessages(context.db, target.agent.id);
  }
  return {
    ok: true,
    result: {},
    settle: async (tx) => {
      if (softDelete) {
        await softDeleteAgent(tx, { agentId: target.agent.id, deletedAt });
        return;
      }
      await deleteAgentRows(tx, [target.agent.id]);
    },
  };
};
