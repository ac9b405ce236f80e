import { beginRun, recordLaunched, recordLaunchFailed } from "@rootstock/store";
import { gone, previousPhase } from "./create.ts";
import type { Operation, OperationContext, OperationResult } from "./operation.ts";
import { startPayload } from "./payloads.ts";
import { agentPath, askForAgent, callRuntimeBroker, launchFacts, projectQuery, runtimeFailure } from "./tunnel.ts";

/**
 * Starts an agent, or resumes its session. Repeated blindly, a start that carries a task would destroy a running
 * container and make it anew (spec/01 rule 6): so a second attempt asks first.
 */
export const start: Operation = async (context) => {
  if (context.attempt > 1) {
    const facts = await askForAgent(context);
    if (facts?.phase === "running") return launched(context, context.target.agent.run_id, facts);
  }
  return launch(context);
};

/** One start, asked for unconditionally. */
export const launch = async (context: OperationContext): Promise<OperationResult> => {
  const before = context.target.agent;
  const resume = context.args.resume === true || context.op === "resume";
  const agent = await beginRun(context.db, { agentId: before.id, runId: context.id, phase: "starting" });
  if (!agent) return gone(context);
  const answer = await callRuntimeBroker(context, {
    method: "POST",
    path: agentPath(context, "start"),
    query: projectQuery(context),
    body: await startPayload({ ...context, target: { ...context.target, agent } }, resume),
  });
  if (answer.status >= 200 && answer.status < 300)
    return launched(context, context.id, launchFacts(answer.body, "running"));
  const failure = runtimeFailure(resume ? "resume agent" : "start agent", answer);
  return {
    ok: false,
    failure,
    settle: async (tx) => {
      await recordLaunchFailed(tx, {
        agentId: before.id,
        runId: context.id,
        phase: previousPhase(context),
        message: failure.message,
      });
    },
  };
};

const launched = (
  context: OperationContext,
  runId: string | null,
  facts: Awaited<ReturnType<typeof launchFacts>>,
): OperationResult => ({
  ok: true,
  result: {},
  settle: async (tx) => {
    await recordLaunched(tx, { agentId: context.target.agent.id, runId, facts });
  },
});
