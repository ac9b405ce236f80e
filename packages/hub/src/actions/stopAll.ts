import { HubError, type Uuid } from "@rootstock/protocol";
import { Semaphore } from "@rootstock/service";
import { type Db, type DispatchTarget, runningTargets } from "@rootstock/store";
import { z } from "zod";
import { decide, factsOf, principalId } from "../auth/index.ts";
import type { Intent, Outcome } from "../dispatch/index.ts";
import { type ActionCall, type ActionDeps, intentSchema, targetResource, throwUnlessDone } from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/** So many at once: a serial runtime broker works them off one by one anyway, and the others share the pool. */
const AT_ONCE = 16;

/** The stops of several agents, as they are kept beside an idempotency key. */
export const stopAllOperation = z.object({
  scope: z.enum(["all", "own"]),
  /** Agents whose runtime broker nobody reaches: nothing was begun for them. */
  unreachable: z.array(z.object({ id: z.string(), name: z.string(), error: z.string() })),
  intents: z.array(intentSchema),
});
type StopAllOperation = z.infer<typeof stopAllOperation>;

/** Stops every running agent of a project, or of all, that the caller may stop (spec/02 2.8). No cap on their number. */
export const stopAll = async (deps: ActionDeps, call: ActionCall, projectId: Uuid | null): Promise<Answer> => {
  const { dispatcher, idempotency, database } = deps;
  const running = await runningTargets(database.db, projectId);
  const facts = await factsOf(call.principal);
  const mine = running.filter((t) => decide(call.principal, "lifecycle", targetResource(t), facts).allow);
  const op = plan(deps, call, mine, mine.length === running.length ? "all" : "own");
  if (!idempotency.isKeyed(call)) return tell(op, (intent) => dispatcher.run(intent));
  return idempotency.run(call, {
    kind: "stopAll",
    begin: async (tx: Db) => {
      for (const intent of op.intents) await dispatcher.begin(tx, intent);
      return op;
    },
    begun: () => {
      for (const intent of op.intents) dispatcher.begun(intent);
    },
  });
};

/** Tells the end of each committed stop. */
export const finishStopAll = (deps: ActionDeps, op: StopAllOperation): Promise<Answer> =>
  tell(op, (intent) => deps.dispatcher.finish(intent));

const plan = (
  deps: ActionDeps,
  call: ActionCall,
  targets: readonly DispatchTarget[],
  scope: "all" | "own",
): StopAllOperation => {
  const op: StopAllOperation = { scope, unreachable: [], intents: [] };
  const createdBy = principalId(call.principal);
  for (const target of targets) {
    const { agent } = target;
    try {
      op.intents.push({
        id: deps.base.random.uuid(),
        op: "stop",
        agentId: agent.id,
        agentSlug: agent.slug,
        projectId: agent.project_id,
        runtimeBrokerId: deps.dispatcher.requireReachable(target).id,
        args: {},
        ...(createdBy && { createdBy }),
        ...(call.traceparent && { traceparent: call.traceparent }),
      });
    } catch (err) {
      if (!(err instanceof HubError)) throw err;
      op.unreachable.push({ id: agent.id, name: agent.name, error: err.message });
    }
  }
  return op;
};

const tell = async (op: StopAllOperation, stop: (intent: Intent) => Promise<Outcome>): Promise<Answer> => {
  const gate = new Semaphore(AT_ONCE);
  const stopOne = async (intent: Intent) => {
    const agent = { id: intent.agentId, name: intent.agentSlug };
    try {
      throwUnlessDone(await stop(intent));
      return { ...agent, status: "stopped" };
    } catch (err) {
      if (!(err instanceof HubError)) throw err;
      return { ...agent, status: "error", error: err.message };
    }
  };
  const results = [
    ...(await Promise.all(op.intents.map((intent) => gate.run(() => stopOne(intent))))),
    ...op.unreachable.map((a) => ({ ...a, status: "error" })),
  ];
  const stopped = results.filter((r) => r.status === "stopped").length;
  return {
    status: 200,
    body: { stopped, failed: results.length - stopped, total: results.length, scope: op.scope, results },
  };
};
