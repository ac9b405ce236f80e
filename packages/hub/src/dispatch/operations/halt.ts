import { type Db, type HaltedPhase, recordHalted, recordHaltFailed } from "@rootstock/store";
import { givenValues } from "./givenValues.ts";
import type { NamedOperation, Operation, OperationResult } from "./operation.ts";
import { noteHalted, onceSent } from "./run.ts";
import { launch } from "./start.ts";
import { agentPath, callRuntimeBroker, projectQuery, type RuntimeBrokerAnswer, runtimeFailure } from "./tunnel.ts";

/** A missing or already stopped container is what was asked for (spec/01 4.1). */
const halted = (answer: RuntimeBrokerAnswer): boolean =>
  (answer.status >= 200 && answer.status < 300) || answer.status === 404;

const askToHalt = (context: Parameters<NamedOperation>[0]): Promise<RuntimeBrokerAnswer> =>
  callRuntimeBroker(context, { method: "POST", path: agentPath(context, "stop"), query: projectQuery(context) });

const halt =
  (verb: "stop" | "suspend", phase: HaltedPhase): NamedOperation =>
  async (context): Promise<OperationResult> => {
    const answer = await askToHalt(context);
    const agentId = context.target.agent.id;
    if (!halted(answer)) {
      const failure = runtimeFailure(`${verb} agent`, answer);
      const settle = (tx: Db) => recordHaltFailed(tx, { agentId, message: `${verb} failed: ${failure.message}` });
      return { ok: false, failure, settle };
    }
    return {
      ok: true,
      result: {},
      halted: phase,
      settle: async (tx) => void (await recordHalted(tx, { agentId, phase })),
    };
  };

/** Stops the container; repeating it is harmless. */
export const stop: NamedOperation = halt("stop", "stopped");

/**
 * Suspends: the original's runtime broker does the same for stop and suspend, and its hub only ever sends `stop`
 * (recorded), so an old one need not know the word.
 */
export const suspend: NamedOperation = halt("suspend", "suspended");

/** Stops, whatever comes of it, and starts afresh; one that could not be started goes on as it is. */
export const restart: Operation = async (context) => {
  const given = await givenValues(context);
  if (given === "unreadable") return launch(context, given);
  await askToHalt(context);
  return onceSent(async () => {
    await noteHalted(context);
    const stopped = { ...context.target, agent: { ...context.target.agent, phase: "stopped" as const } };
    return launch({ ...context, target: stopped }, given);
  });
};
