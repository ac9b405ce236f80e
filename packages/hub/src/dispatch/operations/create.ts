import { deleteAgentRows, recordLaunched, recordLaunchFailed, recordWaiting } from "@rootstock/store";
import { z } from "zod";
import { givenToRun, givenValues, UNREADABLE } from "./givenValues.ts";
import type { Operation, OperationContext, OperationResult } from "./operation.ts";
import { createPayload } from "./payloads.ts";
import { gone, openRun, previousPhase } from "./run.ts";
import {
  agentPath,
  askForAgent,
  callRuntimeBroker,
  launchFacts,
  projectQuery,
  type RuntimeBrokerAnswer,
  runtimeFailure,
} from "./tunnel.ts";

/**
 * Creates an agent at its runtime broker (spec/01 4.3, 4.4). `requestId` is the intent's id, so that a repeated attempt
 * gets the first one's answer. What the caller asked for decides what an incomplete environment means: a 202 that lists
 * what is missing (`gather`), or the end of the agent.
 */
export const create: Operation = async (context) => {
  const given = await givenValues(context);
  if (given === "unreadable") return unreadable(context);
  const started = await openRun(context, "provisioning");
  if (!started) return gone();
  const present = await givenToRun(context, started, given);
  if (present === "unreadable") return unreadable(context);
  const answer = await callRuntimeBroker(started, {
    method: "POST",
    path: "/api/v1/agents",
    body: await createPayload(started, present, {
      requestId: context.id,
      gatherEnv: context.args.provisionOnly !== true,
    }),
  });
  return readCreateAnswer(started, context.id, answer);
};

const unreadable = (context: OperationContext): OperationResult => ({
  ok: false,
  failure: UNREADABLE,
  settle: (tx) => undo(tx, context, context.id, UNREADABLE.message),
});

/** Reads the answer of a create, or of the full create that stands in for a finalize. */
export const readCreateAnswer = async (
  context: OperationContext,
  runId: string,
  answer: RuntimeBrokerAnswer,
): Promise<OperationResult> => {
  const agentId = context.target.agent.id;
  if (answer.status === 201 || answer.status === 200) {
    const provisioned = context.args.provisionOnly === true;
    const facts = launchFacts(answer.body, provisioned ? "created" : "running");
    return {
      ok: true,
      result: {},
      settle: async (tx) => {
        if (provisioned) await recordLaunchFailed(tx, { agentId, runId, phase: "created", message: null });
        await recordLaunched(tx, { agentId, runId, facts });
      },
    };
  }
  if (answer.status === 202) {
    const needs = envRequirements.safeParse(answer.body);
    if (needs.success && needs.data.needs.length > 0) return missingValues(context, needs.data);
    return { ok: true, result: {}, settle: async () => {} };
  }
  if (answer.status === 409 && context.attempt > 1) {
    const facts = await askForAgent(context);
    if (facts?.phase === "running")
      return { ok: true, result: {}, settle: async (tx) => void (await recordLaunched(tx, { agentId, runId, facts })) };
  }
  return failed(context, runId, answer);
};

const strings = z
  .array(z.string())
  .nullish()
  .transform((a) => a ?? []);

/** What the CLI prompts with. */
const secretInfo = z.object({
  description: z.string().optional(),
  source: z.string().optional(),
  type: z.string().optional(),
});

const envRequirements = z.object({
  agentId: z.string().optional(),
  required: strings,
  needs: strings,
  secretInfo: z.record(z.string(), secretInfo).nullish(),
});
type EnvRequirements = z.infer<typeof envRequirements>;

const missingValues = async (context: OperationContext, needs: EnvRequirements): Promise<OperationResult> => {
  const envGather = {
    agentId: context.target.agent.id,
    required: needs.required,
    hubHas: null,
    brokerHas: null,
    needs: needs.needs,
    ...(needs.secretInfo && { secretInfo: needs.secretInfo }),
  };
  if (context.args.gather === true)
    return { ok: true, result: { envGather }, settle: (tx) => recordWaiting(tx, context.target.agent.id) };
  await removeAtRuntimeBroker(context);
  return {
    ok: false,
    failure: {
      code: "missing_env_vars",
      message: `missing environment variables: ${needs.needs.join(", ")}`,
      details: { missingKeys: needs.needs, envGather },
    },
    settle: (tx) => undo(tx, context, context.id, "environment variables are missing"),
  };
};

const failed = async (
  context: OperationContext,
  runId: string,
  answer: RuntimeBrokerAnswer,
): Promise<OperationResult> => {
  const failure = runtimeFailure("create agent", answer);
  // The record of a provision-only create stays: its files can be prepared later, and the caller gets a warning.
  if (context.args.provisionOnly === true)
    return {
      ok: true,
      result: { warning: failure.message },
      settle: async (tx) => {
        await recordLaunchFailed(tx, { agentId: context.target.agent.id, runId, phase: "created", message: null });
      },
    };
  await removeAtRuntimeBroker(context);
  return { ok: false, failure, settle: (tx) => undo(tx, context, runId, failure.message) };
};

/** Takes back what a failed create left at the runtime broker. Its own failure changes nothing for the caller. */
const removeAtRuntimeBroker = (context: OperationContext): Promise<unknown> =>
  callRuntimeBroker(context, {
    method: "DELETE",
    path: agentPath(context),
    query: { ...projectQuery(context), deleteFiles: "true", removeBranch: "true" },
  }).catch(() => undefined);

/** A record made by this very call goes away with it; one that was there before stays, with the reason. */
const undo = async (
  tx: OperationContext["db"],
  context: OperationContext,
  runId: string,
  message: string,
): Promise<void> => {
  const agentId = context.target.agent.id;
  if (context.args.fresh === true) await deleteAgentRows(tx, [agentId]);
  else await recordLaunchFailed(tx, { agentId, runId, phase: previousPhase(context), message });
};
