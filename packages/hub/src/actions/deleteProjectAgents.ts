import type { Uuid } from "@rootstock/protocol";
import { Semaphore } from "@rootstock/service";
import { targetsOfProject } from "@rootstock/store";
import { principalId } from "../auth/index.ts";
import { reachability } from "../dispatch/index.ts";
import type { ActionCall, ActionDeps } from "./deps.ts";

/** So many at once: the project's owner waits for the answer. */
const AT_ONCE = 16;

/**
 * Ends every agent of a project at its runtime broker before the project's rows go. Best effort: what cannot be reached
 * now is not waited for, because nobody would find the agent afterwards.
 */
export const deleteProjectAgents = async (
  deps: ActionDeps,
  projectId: Uuid,
  call: Pick<ActionCall, "principal" | "traceparent">,
): Promise<void> => {
  const { principal, traceparent } = call;
  const createdBy = principalId(principal);
  const gate = new Semaphore(AT_ONCE);
  const targets = await targetsOfProject(deps.database.db, projectId);
  await Promise.all(
    targets.map(({ agent, runtimeBroker }) =>
      gate.run(async () => {
        if (!runtimeBroker || reachability(runtimeBroker) !== "connected") return;
        const outcome = await deps.dispatcher.run({
          id: deps.base.random.uuid(),
          op: "delete",
          agentId: agent.id,
          agentSlug: agent.slug,
          projectId,
          runtimeBrokerId: runtimeBroker.id,
          args: { deleteFiles: true, removeBranch: true, force: true, softDelete: false },
          ...(createdBy && { createdBy }),
          ...(traceparent && { traceparent }),
        });
        if (outcome.kind !== "done")
          deps.base.log.warn({ agentId: agent.id, outcome: outcome.kind }, "agent of a deleted project left behind");
      }),
    ),
  );
};
