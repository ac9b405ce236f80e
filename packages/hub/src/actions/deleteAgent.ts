import type { DispatchTarget } from "@rootstock/store";
import {
  deleteAgentRows,
  failWaitingMessages,
  leaveEndedMessages,
  softDeleteAgent,
  transaction,
} from "@rootstock/store";
import { principalId } from "../auth/index.ts";
import { reachability, untilCertain } from "../dispatch/index.ts";
import { type ActionCall, type ActionDeps, carryOut, type LifecycleKind, throwUnlessDone } from "./deps.ts";
import type { Answer } from "./idempotency.ts";

export interface DeleteOptions {
  readonly deleteFiles: boolean;
  readonly removeBranch: boolean;
  /** Deletes the record at once and whatever the runtime broker says (spec/02 2.7). */
  readonly force: boolean;
}

/** Deletes an agent: 204, or 202 while the runtime broker is still at it. Deleting a deleted one again is 204. */
export const deleteAgent = async (
  deps: ActionDeps,
  call: ActionCall,
  target: DispatchTarget,
  options: DeleteOptions,
): Promise<Answer> => {
  const { agent } = target;
  if (agent.deleted_at && !options.force) return { status: 204, body: null };
  const softDelete = deps.softDeleteSeconds > 0 && !options.force;
  const deletedAt = new Date(deps.base.clock.now());
  const absent = !target.runtimeBroker || (options.force && reachability(target.runtimeBroker) === "away");
  if (absent || agent.deleted_at) {
    if (!softDelete) {
      await failWaitingMessages(deps.database.db, [agent.id]);
      await leaveEndedMessages(deps.database.db, agent.id);
    }
    await untilCertain(deps.base, () =>
      transaction(deps.database.db, async (tx) => {
        if (softDelete) await softDeleteAgent(tx, { agentId: agent.id, deletedAt });
        else await deleteAgentRows(tx, [agent.id]);
      }),
    );
    deps.changed();
    return { status: 204, body: null };
  }
  const runtimeBroker = deps.dispatcher.requireReachable(target);
  const createdBy = principalId(call.principal);
  return carryOut(deps, call, DELETE, {
    id: deps.base.random.uuid(),
    op: "delete",
    agentId: agent.id,
    agentSlug: agent.slug,
    projectId: agent.project_id,
    runtimeBrokerId: runtimeBroker.id,
    args: { ...options, softDelete, ...(softDelete && { deletedAt: deletedAt.toISOString() }) },
    ...(createdBy && { createdBy }),
  });
};

/** How the end of a delete is told. */
export const DELETE: LifecycleKind = {
  name: "delete",
  answer: async (_deps, intent, outcome) => {
    throwUnlessDone(outcome);
    if (outcome.kind !== "unfinished") return { status: 204, body: null };
    const deletion = { state: "deleting", soft: intent.args.softDelete === true, claim: intent.id };
    return { status: 202, body: { agentId: intent.agentId, deletion } };
  },
};
