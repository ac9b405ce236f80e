import type { Uuid } from "@rootstock/protocol";
import { HubError } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type AgentView, agentById, type Database, type Db, type DispatchTarget, transaction } from "@rootstock/store";
import { z } from "zod";
import type { AgentResource } from "../auth/index.ts";
import {
  type Courier,
  type Dispatcher,
  type Intent,
  type Outcome,
  orUnknown,
  untilCertain,
} from "../dispatch/index.ts";
import type { AgentConfigs, SecretBox } from "../secrets/index.ts";
import { type Answer, type Finisher, finisher, type Idempotency, type KeyedCall } from "./idempotency.ts";

/** What the actions work with. */
export interface ActionDeps {
  readonly base: Base;
  readonly database: Database;
  readonly dispatcher: Dispatcher;
  readonly courier: Courier;
  readonly idempotency: Idempotency;
  readonly box: SecretBox;
  readonly agentConfigs: AgentConfigs;
  /** After a commit that changed what others may see. */
  readonly changed: () => void;
  /** Where clients and containers reach the hub, if it is configured. */
  readonly publicUrl: string | undefined;
  /** How long a deleted agent can be restored, in seconds; 0 deletes at once. */
  readonly softDeleteSeconds: number;
}

/** A call as actions see it: who, and what makes it repeatable. */
export type ActionCall = KeyedCall;

/**
 * What containers are told of where the hub is: what is configured, else nothing, and they go where their runtime broker
 * dials. Never what a request says: whoever may start an agent would have it show its token wherever their `Host` leads.
 */
export const whereHubIs = ({ publicUrl }: Pick<ActionDeps, "publicUrl">): { readonly hubEndpoint?: string } =>
  publicUrl === undefined ? {} : { hubEndpoint: publicUrl };

/** The access decision's view of a dispatch target. */
export const targetResource = ({ agent, project }: DispatchTarget): AgentResource => ({
  kind: "agent",
  id: agent.id,
  projectId: agent.project_id,
  ownerId: agent.owner_id,
  ancestry: agent.ancestry,
  runtimeBrokerId: agent.runtime_broker_id,
  labels: agent.labels,
  projectOwnerId: project.ownerId,
  visibility: agent.visibility,
  projectVisibility: project.visibility,
});

/** The agent as it is now, for an answer. Throws 404 when it is gone. */
export const agentNow = async (deps: ActionDeps, id: Uuid): Promise<AgentView> => {
  const agent = await agentById(deps.database.db, id);
  if (!agent) throw new HubError("not_found", "agent not found: it was deleted meanwhile");
  return agent;
};

/** The agent after an operation, for its answer: as it was read with the end, or as it is now. Throws 404 when it is gone. */
export const agentAfter = async (deps: ActionDeps, intent: Intent, outcome: Outcome): Promise<AgentView> =>
  (outcome.kind === "done" && outcome.agent) || agentNow(deps, intent.agentId);

/** An intent as it is kept beside an idempotency key. */
export const intentSchema: z.ZodType<Intent> = z.object({
  id: z.string(),
  op: z.enum([
    "create",
    "start",
    "stop",
    "restart",
    "suspend",
    "resume",
    "delete",
    "check_prompt",
    "finalize_env",
    "reset_auth",
  ]),
  agentId: z.string(),
  agentSlug: z.string(),
  projectId: z.string(),
  runtimeBrokerId: z.string(),
  args: z.record(z.string(), z.unknown()),
});

/**
 * Carries out a lifecycle call. Without a key the effects of `prepare` are committed and the operation takes the shortest
 * way; with one, intent and key are one transaction, so that any replica can finish the call.
 */
export const carryOut = async (
  deps: ActionDeps,
  call: KeyedCall,
  kind: LifecycleKind,
  prepare: Intent | ((tx: Db) => Promise<Intent>),
): Promise<Answer> => {
  const { dispatcher, idempotency, database } = deps;
  const { traceparent } = call;
  const traced = (intent: Intent): Intent => ({ ...intent, ...(traceparent && { traceparent }) });
  const intend = async (tx: Db) => traced(typeof prepare === "function" ? await prepare(tx) : prepare);
  if (!idempotency.isKeyed(call)) {
    const commits = typeof prepare === "function";
    const intent = commits ? await orUnknown(() => transaction(database.db, intend)) : traced(prepare);
    const outcome = await dispatcher.run(intent);
    return untilCertain(deps.base, () => kind.answer(deps, intent, outcome), { begun: true });
  }
  return idempotency.run(call, {
    kind: kind.name,
    begin: async (tx) => {
      const intent = await intend(tx);
      await dispatcher.begin(tx, intent);
      return intent;
    },
    begun: (intent) => dispatcher.begun(intent),
  });
};

/** A kind of lifecycle call: how its end is told, from the intent alone. */
export interface LifecycleKind {
  readonly name: string;
  readonly answer: (deps: ActionDeps, intent: Intent, outcome: Outcome) => Promise<Answer>;
}

/** Finishes keyed lifecycle calls of a kind. */
export const lifecycleFinisher = (deps: ActionDeps, kind: LifecycleKind): Finisher =>
  finisher(intentSchema, async (intent, repeated) => {
    const outcome = await deps.dispatcher.finish(intent);
    return repeated && outcome.kind === "unfinished" ? undefined : kind.answer(deps, intent, outcome);
  });

/** Throws what a caller is told of an operation that did not succeed; returns when it did or is still under way. */
export const throwUnlessDone = (outcome: Outcome): void => {
  if (outcome.kind === "failed") {
    const { code, message, details } = outcome.failure;
    throw new HubError(code, message, details && { details });
  }
  if (outcome.kind === "expired")
    throw new HubError("runtime_broker_unavailable", outcome.reason, {
      details: { availableBrokers: null },
      retryAfter: 5,
    });
};
