import { type LaunchFacts, recordLaunched, recordLaunchFailed } from "@rootstock/store";
import { type GivenValues, givenToRun, givenValues, UNREADABLE } from "./givenValues.ts";
import type { Operation, OperationContext, OperationFailure, OperationResult } from "./operation.ts";
import { startPayload } from "./payloads.ts";
import { gone, openRun, previousPhase } from "./run.ts";
import { agentPath, askForAgent, callRuntimeBroker, launchFacts, projectQuery, runtimeFailure } from "./tunnel.ts";

/**
 * Starts an agent, or resumes its session. Repeated blindly, a start that carries a task would destroy a running
 * container and make it anew (spec/01 rule 6): so a second attempt asks first.
 */
export const start: Operation = async (context) => {
  // So does the start of an agent that runs, as far as we know: it has its container, and keeps it.
  if (context.attempt > 1 || context.target.agent.phase === "running") {
    const facts = await askForAgent(context);
    if (facts?.phase === "running") return launched(context, context.target.agent.run_id, facts);
  }
  return launch(context, await givenValues(context));
};

/** One start, asked for unconditionally. */
export const launch = async (
  context: OperationContext,
  given: GivenValues | "unreadable",
): Promise<OperationResult> => {
  if (given === "unreadable") return notLaunched(context, UNREADABLE);
  const resume = context.args.resume === true || context.op === "resume";
  const started = await openRun(context, "starting");
  if (!started) return gone();
  const present = await givenToRun(context, started, given);
  if (present === "unreadable") return notLaunched(context, UNREADABLE);
  const answer = await callRuntimeBroker(context, {
    method: "POST",
    path: agentPath(context, "start"),
    query: projectQuery(context),
    body: await startPayload(started, present, resume),
  });
  if (answer.status >= 200 && answer.status < 300)
    return launched(context, context.id, launchFacts(answer.body, "running"));
  return notLaunched(context, runtimeFailure(resume ? "resume agent" : "start agent", answer));
};

const notLaunched = (context: OperationContext, failure: OperationFailure): OperationResult => ({
  ok: false,
  failure,
  settle: async (tx) => {
    await recordLaunchFailed(tx, {
      agentId: context.target.agent.id,
      runId: context.id,
      phase: previousPhase(context),
      message: failure.message,
    });
  },
});

const launched = (context: OperationContext, runId: string | null, facts: LaunchFacts): OperationResult => ({
  ok: true,
  result: {},
  settle: async (tx) => {
    await recordLaunched(tx, { agentId: context.target.agent.id, runId, facts });
  },
});
