import { HubError, notFound, type Phase } from "@rootstock/protocol";
import {
  type DispatchOp,
  type DispatchTarget,
  isUniqueViolation,
  recordAudit,
  recordHalted,
  restoreAgent,
  transaction,
} from "@rootstock/store";
import { principalId } from "../auth/index.ts";
import { type Intent, StaleTarget, untilCertain } from "../dispatch/index.ts";
import { agentDetail, agentJson, some } from "../wire/index.ts";
import {
  type ActionCall,
  type ActionDeps,
  agentAfter,
  agentNow,
  carryOut,
  type LifecycleKind,
  throwUnlessDone,
  whereHubIs,
} from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/** The verbs on an existing agent (spec/02 2.8). */
export type Verb = "start" | "stop" | "suspend" | "resume" | "restart";

export interface VerbOptions {
  /** Replaces the task that the agent was created with, for this start. */
  readonly task?: string | undefined;
}

/** The operation behind a verb: starting a suspended agent takes its session up again. */
const operationOf = (verb: Verb, phase: Phase): DispatchOp => {
  if (verb === "start" || verb === "resume") return phase === "suspended" ? "resume" : "start";
  return verb;
};

const refusals = (verb: Verb, { agent }: DispatchTarget): void => {
  if (agent.deleted_at) throw notFound("agent");
  if (verb === "suspend" && agent.phase !== "running" && agent.phase !== "suspended")
    throw new HubError("validation_error", `only a running agent can be suspended; ${agent.slug} is ${agent.phase}`, {
      details: { field: "phase", phase: agent.phase },
    });
};

/** Verbs that end a run, and nothing else. */
type Halt = "stop" | "suspend";
export const isHaltVerb = (verb: Verb): verb is Halt => verb === "stop" || verb === "suspend";

/** Starts, stops, suspends, resumes or restarts an agent. 200 with the agent; 202 while a halt is still under way. */
export const changeLifecycle = async (
  deps: ActionDeps,
  call: ActionCall,
  target: DispatchTarget,
  verb: Verb,
  options: VerbOptions = {},
): Promise<Answer> => {
  refusals(verb, target);
  if (!target.runtimeBroker && isHaltVerb(verb)) return haltRecord(deps, target, verb);
  return carryOut(deps, call, VERB, intentOf(deps, call, target, verb, options));
};

/**
 * Halts an agent on a target as it was some time ago: the statement that commits the intent makes sure that it is so
 * still. Undefined, with nothing begun, when it is not, or when it could not be sent at once: then it is for
 * {@link changeLifecycle} to decide, on what is so now.
 */
export const haltRemembered = async (
  deps: ActionDeps,
  call: ActionCall,
  target: DispatchTarget,
  verb: Halt,
): Promise<Answer | undefined> => {
  // For how long a runtime broker has been away no stamp says.
  if (deps.idempotency.isKeyed(call) || !target.runtimeBroker?.connectedHubId) return undefined;
  let intent: Intent;
  try {
    refusals(verb, target);
    intent = { ...intentOf(deps, call, target, verb), stamp: target.stamp };
  } catch (err) {
    if (err instanceof HubError) return undefined;
    throw err;
  }
  try {
    return await carryOut(deps, call, VERB, intent);
  } catch (err) {
    if (!(err instanceof StaleTarget)) throw err;
    deps.courier.targets.forget(target);
    return undefined;
  }
};

const intentOf = (
  deps: ActionDeps,
  call: ActionCall,
  target: DispatchTarget,
  verb: Verb,
  options: VerbOptions = {},
): Intent => {
  const { agent } = target;
  const runtimeBroker = deps.dispatcher.requireReachable(target);
  const op = operationOf(verb, agent.phase);
  const args = {
    ...(options.task && { task: options.task }),
    ...(op === "resume" && { resume: true }),
    ...(!isHaltVerb(verb) && whereHubIs(deps)),
  };
  const createdBy = principalId(call.principal);
  return {
    id: deps.base.random.uuid(),
    op,
    agentId: agent.id,
    agentSlug: agent.slug,
    projectId: agent.project_id,
    runtimeBrokerId: runtimeBroker.id,
    args,
    ...(runtimeBroker.connectedHubId && { owner: runtimeBroker.connectedHubId }),
    ...(createdBy && { createdBy }),
  };
};

/** How the end of a verb is told. */
export const VERB: LifecycleKind = {
  name: "verb",
  answer: async (deps, intent, outcome) => {
    throwUnlessDone(outcome);
    const shown = outcome.kind === "done" ? outcome.shown : undefined;
    const now = shown ?? agentJson(await agentAfter(deps, intent, outcome));
    if (outcome.kind !== "unfinished") return { status: 200, body: now };
    const warnings = [`the ${intent.op} is still under way; it goes on without this call`];
    return { status: intent.op === "stop" || intent.op === "suspend" ? 202 : 200, body: { ...now, warnings } };
  },
};

/** An agent without a runtime broker has no container: only its record changes. */
const haltRecord = async (deps: ActionDeps, { agent }: DispatchTarget, verb: Halt): Promise<Answer> => {
  await transaction(deps.database.db, async (tx) => {
    await recordHalted(tx, { agentId: agent.id, phase: verb === "stop" ? "stopped" : "suspended" });
    await recordAudit(tx, {
      action: `agent_${verb}_requested`,
      targetType: "agent",
      targetId: agent.id,
      targetName: agent.slug,
      projectId: agent.project_id,
    });
  });
  deps.changed();
  return { status: 200, body: agentJson(await agentNow(deps, agent.id)) };
};

/** Makes a soft-deleted agent visible again; its container stays down. */
export const restoreDeleted = async (deps: ActionDeps, call: ActionCall, target: DispatchTarget): Promise<Answer> => {
  const { agent } = target;
  // Begun again because nobody knows whether it was committed, it finds its own work done.
  let begunBefore = false;
  try {
    const answer = await deps.idempotency.once(
      call,
      async (tx) => {
        const restored = await restoreAgent(tx, agent.id);
        if (!restored && !begunBefore) throw new HubError("validation_error", `agent ${agent.slug} is not deleted`);
        begunBefore = true;
        return { status: 200, body: null };
      },
      { repeatable: true },
    );
    deps.changed();
    if (answer.status !== 200) return answer;
  } catch (err) {
    if (!isUniqueViolation(err, "agents_slug")) throw err;
    throw new HubError(
      "conflict",
      `another agent of the project is named ${agent.slug} now; delete or rename it first`,
    );
  }
  const now = await untilCertain(deps.base, () => agentNow(deps, agent.id), { begun: true });
  const { appliedConfig: _, ...json } = agentJson(now);
  return { status: 200, body: { ...json, ...some("detail", agentDetail(now)) } };
};
