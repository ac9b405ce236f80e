import { HubError } from "@rootstock/protocol";
import { type DispatchTarget, keepValues } from "@rootstock/store";
import { principalId } from "../auth/index.ts";
import { sealKeptValue } from "../dispatch/index.ts";
import { agentJson } from "../wire/index.ts";
import {
  type ActionCall,
  type ActionDeps,
  agentAfter,
  carryOut,
  type LifecycleKind,
  throwUnlessDone,
  whereHubIs,
} from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/**
 * Takes the values that a create was missing, keeps them for every later start, and launches the agent (spec/02 2.6).
 * They are committed with the intent, encrypted, and never written into it.
 */
export const submitEnv = async (
  deps: ActionDeps,
  call: ActionCall,
  target: DispatchTarget,
  env: Readonly<Record<string, string>>,
): Promise<Answer> => {
  const { agent } = target;
  if (Object.keys(env).length === 0)
    throw new HubError("validation_error", "env must name at least one value", { details: { field: "env" } });
  if (agent.phase !== "provisioning" && agent.phase !== "created")
    throw new HubError("invalid_state", `agent ${agent.slug} is ${agent.phase}; it does not wait for values`, {
      details: { phase: agent.phase },
    });
  if (!target.runtimeBroker) throw new HubError("validation_error", `agent ${agent.slug} has no runtime broker`);
  const runtimeBroker = deps.dispatcher.requireReachable(target);
  const createdBy = principalId(call.principal);
  // Before the transaction: whoever keeps the keys may have to be asked, and nobody's connection waits for that.
  const values = await Promise.all(
    Object.entries(env).map(async ([key, value]) => ({
      key,
      value: await sealKeptValue(deps.box, agent.id, key, value),
    })),
  );
  return carryOut(deps, call, ENV, async (tx) => {
    await keepValues(tx, agent.id, values);
    return {
      id: deps.base.random.uuid(),
      op: "finalize_env",
      agentId: agent.id,
      agentSlug: agent.slug,
      projectId: agent.project_id,
      runtimeBrokerId: runtimeBroker.id,
      args: { ...whereHubIs(deps), gather: true },
      ...(createdBy && { createdBy }),
    };
  });
};

/** How the end of submitted values is told. */
export const ENV: LifecycleKind = {
  name: "env",
  answer: async (deps, intent, outcome) => {
    throwUnlessDone(outcome);
    const now = agentJson(await agentAfter(deps, intent, outcome));
    const gather = outcome.kind === "done" ? outcome.result.envGather : undefined;
    if (gather) return { status: 202, body: { agent: now, envGather: gather } };
    return { status: 200, body: { agent: now } };
  },
};
