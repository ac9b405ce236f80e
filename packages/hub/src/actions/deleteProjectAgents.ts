import { HubError, type Uuid } from "@rootstock/protocol";
import { Semaphore } from "@rootstock/service";
import { type DispatchTarget, type Position, targetsOfProject } from "@rootstock/store";
import { principalId } from "../auth/index.ts";
import { reachability } from "../dispatch/index.ts";
import type { ActionCall, ActionDeps } from "./deps.ts";

/** So many at once: the project's owner waits for the answer. */
const AT_ONCE = 16;
/** Agents whose records are in memory at a time. */
const PAGE = 200;

/**
 * Ends every agent of a project at its runtime broker before the project's rows go. Best effort: what cannot be reached
 * now is not waited for, because nobody would find the agent afterwards.
 */
export const deleteProjectAgents = async (
  deps: ActionDeps,
  projectId: Uuid,
  call: Pick<ActionCall, "principal" | "traceparent">,
): Promise<void> => {
  const gate = new Semaphore(AT_ONCE);
  let after: Position | undefined;
  do {
    const page: DispatchTarget[] = await targetsOfProject(deps.database.db, projectId, { limit: PAGE, after });
    await Promise.all(page.map((target) => gate.run(() => deleteOne(deps, target, call))));
    after = page.length === PAGE ? page.at(-1)?.agent : undefined;
  } while (after);
};

const deleteOne = async (
  deps: ActionDeps,
  { agent, runtimeBroker }: DispatchTarget,
  { principal, traceparent }: Pick<ActionCall, "principal" | "traceparent">,
): Promise<void> => {
  if (!runtimeBroker || reachability(runtimeBroker) !== "connected") return;
  const createdBy = principalId(principal);
  const outcome = await deps.dispatcher
    .run({
      id: deps.base.random.uuid(),
      op: "delete",
      agentId: agent.id,
      agentSlug: agent.slug,
      projectId: agent.project_id,
      runtimeBrokerId: runtimeBroker.id,
      args: { deleteFiles: true, removeBranch: true, force: true, softDelete: false },
      ...(createdBy && { createdBy }),
      ...(traceparent && { traceparent }),
    })
    .catch((err: unknown) => {
      // Deleted by somebody else meanwhile.
      if (err instanceof HubError && err.code === "not_found") return { kind: "done" };
      throw err;
    });
  if (outcome.kind !== "done")
    deps.base.log.warn({ agentId: agent.id, outcome: outcome.kind }, "agent of a deleted project left behind");
};
