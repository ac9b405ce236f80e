import type { AgentRecord } from "../agents/agentRecord.ts";
import type { OperationContext } from "./operation.ts";

/** Ends an agent and forgets it, and what was kept for it. */
export const removeAgent = async (
  record: AgentRecord,
  { agents, delivered, pending }: OperationContext,
  options: { readonly keepWorkspace: boolean },
): Promise<void> => {
  await delivered.forget(agents.place(record));
  await agents.delete(record, options);
  if (record.id !== undefined) await pending.remove(record.id);
};

/**
 * Removes the agent that is here under this key, if it is another than the one with this id: its hub has forgotten it, as
 * when it was deleted while this machine was away, and whoever has its name now is somebody else. Left alone, its session,
 * its work and the values that a person gave it would be theirs.
 */
export const removeFormer = async (key: string, id: string | undefined, context: OperationContext): Promise<void> => {
  const { agents, base } = context;
  const former = agents.store.get(key);
  if (!former?.id || !id || former.id.toLowerCase() === id.toLowerCase()) return;
  base.log.warn({ agent: former.slug, projectId: former.projectId, formerId: former.id, id }, "former agent removed");
  await removeAgent(former, context, { keepWorkspace: false });
};
