import { notFound, type Phase } from "@rootstock/protocol";
import { type DispatchTarget, voidAgentTokens } from "@rootstock/store";
import { principalId } from "../auth/index.ts";
import { type Intent, untilCertain } from "../dispatch/index.ts";
import { type ActionCall, type ActionDeps, carryOut, type LifecycleKind, throwUnlessDone } from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/** Phases in which an agent has no container that could take a token: its next start brings it one. */
const AT_REST: ReadonlySet<Phase> = new Set<Phase>(["created", "stopped", "suspended"]);

/**
 * The intent that brings this agent a new token. Throws 503 when nobody would carry it out within the grace, 422 for one
 * without a runtime broker.
 */
export const resetAuthIntent = (deps: Pick<ActionDeps, "dispatcher">, target: DispatchTarget, id: string): Intent => {
  const { agent } = target;
  return {
    id,
    op: "reset_auth",
    agentId: agent.id,
    agentSlug: agent.slug,
    projectId: agent.project_id,
    runtimeBrokerId: deps.dispatcher.requireReachable(target).id,
    args: {},
  };
};

/**
 * Gives an agent a new token and voids every older one (spec/03 6.8). 200 with a message; 202 while it is still under way.
 * Of one that does not run, the tokens are void at once. Throws 404 for a deleted agent, 503 for one out of reach.
 */
export const resetAuth = async (deps: ActionDeps, call: ActionCall, target: DispatchTarget): Promise<Answer> => {
  const { agent } = target;
  if (agent.deleted_at) throw notFound("Agent");
  if (!target.runtimeBroker || AT_REST.has(agent.phase)) {
    await untilCertain(deps.base, () => voidAgentTokens(deps.database.db, agent.id));
    deps.changed();
    return said(200, `the tokens of agent ${agent.slug} are void; its next start brings it a new one`);
  }
  const createdBy = principalId(call.principal);
  const intent = resetAuthIntent(deps, target, deps.base.random.uuid());
  return carryOut(deps, call, RESET_AUTH, { ...intent, ...(createdBy && { createdBy }) });
};

/** How the end of a reset is told. */
export const RESET_AUTH: LifecycleKind = {
  name: "resetAuth",
  answer: async (_, intent, outcome) => {
    throwUnlessDone(outcome);
    return outcome.kind === "unfinished"
      ? said(202, `the reset of agent ${intent.agentSlug} is still under way; it goes on without this call`)
      : said(200, `authentication of agent ${intent.agentSlug} was reset`);
  },
};

const said = (status: number, message: string): Answer => ({ status, body: { message } });
