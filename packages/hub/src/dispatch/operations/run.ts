import type { Phase } from "@rootstock/protocol";
import { beginRun, findAgent, type OperationSocket, recordHaltedMidway } from "@rootstock/store";
import { TunnelError } from "../../control/index.ts";
import type { OperationContext, OperationResult } from "./operation.ts";

const socketOf = ({ instanceId, connection }: OperationContext): OperationSocket => {
  const { runtimeBrokerId, sessionId } = connection;
  return { instanceId, runtimeBrokerId, sessionId };
};

const MOVED = "the runtime broker is connected elsewhere";

/**
 * Opens the run of this operation, or finds it open from an attempt before: then what the container has reported since
 * stays. Undefined when the agent was deleted. Throws {@link TunnelError} when another socket goes on with the operation.
 */
export const openRun = async (
  context: OperationContext,
  phase: "provisioning" | "starting",
): Promise<OperationContext | undefined> => {
  const agentId = context.target.agent.id;
  const opened = await beginRun(context.db, { agentId, runId: context.id, phase, socket: socketOf(context) });
  if (!opened.held) throw new TunnelError("not_sent", MOVED);
  const agent = opened.agent ?? (await findAgent(context.db, agentId));
  if (!agent || agent.deleted_at) return undefined;
  return { ...context, target: { ...context.target, agent } };
};

/** What comes after something was sent. Throws {@link TunnelError} `lost` where it alone would not have been sent: the attempt counts. */
export const onceSent = async <T>(work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (err) {
    if (err instanceof TunnelError && err.kind === "not_sent")
      throw new TunnelError("lost", err.message, { cause: err });
    throw err;
  }
};

/** Records that the agent is down, before it is launched anew. Throws as {@link openRun} does. */
export const noteHalted = async (context: OperationContext): Promise<void> => {
  const p = { agentId: context.target.agent.id, phase: "stopped" as const, socket: socketOf(context) };
  if (!(await recordHaltedMidway(context.db, p))) throw new TunnelError("not_sent", MOVED);
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
