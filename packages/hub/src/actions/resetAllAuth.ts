import { HubError, type Uuid } from "@rootstock/protocol";
import { Semaphore } from "@rootstock/service";
import {
  type AuthReset,
  actingAs,
  askerOf,
  authResetById,
  authResetReport,
  beginAuthReset,
  dispatchOutcomes,
  finishAuthResets,
  isAuthResetOver,
  type PendingAuthReset,
  pendingAuthResets,
  settleAuthReset,
  targetById,
} from "@rootstock/store";
import { z } from "zod";
import { principalId } from "../auth/index.ts";
import type { Outcome } from "../dispatch/index.ts";
import { time } from "../wire/index.ts";
import { type ActionCall, type ActionDeps, throwUnlessDone } from "./deps.ts";
import type { Answer } from "./idempotency.ts";
import { resetAuthIntent } from "./resetAuth.ts";

/**
 * New tokens for all agents that run. The work is rows: any replica goes on with it, and any can say how far it is. It is
 * done by a sweep, so that one replica at a time does it and another takes over from one that died.
 */

/** How long a caller waits for the report before it hears how far it is, in milliseconds: clients give up at 30 s. */
const ANSWER_WITHIN_MS = 20_000;
/** How often it is looked whether the work is done, in milliseconds. */
const LOOK_EVERY_MS = 250;
/** So many agents at once, and at one runtime broker: what people ask of it meanwhile waits behind these only. */
const AT_ONCE = 32;
const AT_ONE_RUNTIME_BROKER = 4;
/** So many are read at once. */
const CHUNK = 500;

/** As it is kept beside an idempotency key. */
export const resetAllOperation = z.object({ id: z.string() });

/** Begins, or joins what is under way. 200 with the report, or 202 with how far it has come. */
export const resetAllAuth = async (deps: ActionDeps, call: ActionCall): Promise<Answer> => {
  const createdBy = principalId(call.principal);
  if (!createdBy) throw new HubError("forbidden", "only users may do this");
  const mine = { id: deps.base.random.uuid(), createdBy, traceparent: call.traceparent };
  if (!deps.idempotency.isKeyed(call))
    return finishResetAll(deps, { id: await beginAuthReset(deps.database.db, mine) });
  return deps.idempotency.run(call, {
    kind: "resetAll",
    begin: async (tx) => ({ id: await beginAuthReset(tx, mine) }),
    begun: () => {},
  });
};

/** Waits for the end as long as a caller does. */
export const finishResetAll = async (deps: ActionDeps, { id }: { readonly id: Uuid }): Promise<Answer> => {
  const { clock } = deps.base;
  const until = clock.elapsed() + ANSWER_WITHIN_MS;
  const { db } = deps.database;
  while (!(await isAuthResetOver(db, id)) && clock.elapsed() < until) await clock.sleep(LOOK_EVERY_MS);
  const reset = await authResetById(db, id);
  if (!reset) throw new HubError("not_found", "Reset not found");
  return { status: reset.finished_at ? 200 : 202, body: await reportJson(deps, reset) };
};

/** What the original answers (spec/03 6.8), lists null when empty, and how far it is. */
export const reportJson = async (deps: Pick<ActionDeps, "database">, reset: AuthReset): Promise<object> => {
  const lines = await authResetReport(deps.database.db, reset.id);
  const of = (state: string) => {
    const some = lines.filter((line) => line.state === state);
    return some.length === 0
      ? null
      : some.map((l) => ({ id: l.agent_id, name: l.name, ...(l.error !== null && { error: l.error }) }));
  };
  return { ...resetJson(reset), succeeded: of("done"), failed: of("failed") };
};

/** A reset in a list: the numbers without the agents. */
export const resetJson = (reset: AuthReset) => ({
  id: reset.id,
  state: reset.finished_at ? "finished" : "running",
  created: time(reset.created),
  ...(reset.created_by && { createdBy: reset.created_by }),
  ...(reset.finished_at && { finishedAt: time(reset.finished_at) }),
  total: reset.total,
  pending: reset.pending,
  failedCount: reset.failed,
});

export type ResetDeps = Pick<ActionDeps, "base" | "database" | "dispatcher">;

/**
 * Gives new tokens to all agents that wait for one, until none is left or `signal` aborts, and returns how many it has
 * settled. What two replicas do at once is one operation with one id, or a second new token: neither does harm.
 */
export const workOffAuthResets = async (deps: ResetDeps, signal: AbortSignal): Promise<number> => {
  const { db } = deps.database;
  const gates = new Gates();
  const over = aborted(signal);
  let settled = 0;
  let last: Uuid | undefined;
  while (!signal.aborted) {
    const chunk = await deps.database.background(() => pendingAuthResets(db, last, CHUNK));
    if (chunk.length === 0) break;
    last = chunk.at(-1)?.agent_id;
    const done = await Promise.all(
      chunk.map((item) =>
        gates.run(item.runtime_broker_id, async () => (signal.aborted ? false : resetOne(deps, item, over))),
      ),
    );
    settled += done.filter((ended) => ended).length;
  }
  if (!signal.aborted) await deps.database.background(() => finishAuthResets(db));
  return settled;
};

/** Lets so many through in all, and so many at one runtime broker: a slow one holds up nobody but itself. */
class Gates {
  readonly #all = new Semaphore(AT_ONCE);
  readonly #each = new Map<string, Semaphore>();

  run<T>(runtimeBrokerId: Uuid | null, work: () => Promise<T>): Promise<T> {
    const key = runtimeBrokerId ?? "";
    const own = this.#each.get(key) ?? new Semaphore(AT_ONE_RUNTIME_BROKER);
    this.#each.set(key, own);
    return own.run(() => this.#all.run(work));
  }
}

/** Whether it is known how it ended for this agent, and written down. */
const resetOne = async (deps: ResetDeps, item: PendingAuthReset, over: Promise<undefined>): Promise<boolean> => {
  const { base, database } = deps;
  let error: string | null = null;
  try {
    const outcome = await Promise.race([
      actingAs(
        () => askerOf({ createdBy: item.created_by, dispatchId: item.dispatch_id }),
        () => carriedOut(deps, item),
      ),
      over,
    ]);
    // Looked at again with the next tick, here or elsewhere.
    if (!outcome || outcome.kind === "unfinished") return false;
    throwUnlessDone(outcome);
  } catch (err) {
    if (!(err instanceof HubError)) throw err;
    if (err.details?.outcome === "unknown") return false;
    error = err.message;
  }
  if (error !== null) base.log.warn({ agentId: item.agent_id, reason: error }, "agent got no new token");
  await database.background(() => settleAuthReset(database.db, item, error));
  return true;
};

/** Carries the operation out, or finds it carried out by whoever was at it before. Throws why it cannot be. */
const carriedOut = async ({ dispatcher, database }: ResetDeps, item: PendingAuthReset): Promise<Outcome> => {
  const [target, [begun]] = await Promise.all([
    targetById(database.db, item.agent_id),
    dispatchOutcomes(database.db, [item.dispatch_id]),
  ]);
  if (!target || target.agent.deleted_at) throw new HubError("not_found", "deleted meanwhile");
  if (target.agent.phase !== "running")
    throw new HubError("agent_not_running", `not running any more: its next start brings it a new token`);
  const plain = resetAuthIntent({ dispatcher }, target, item.dispatch_id);
  const intent = {
    ...plain,
    ...(item.created_by && { createdBy: item.created_by }),
    ...(item.traceparent && { traceparent: item.traceparent }),
  };
  return begun ? dispatcher.finish(intent) : dispatcher.run(intent);
};

const aborted = (signal: AbortSignal): Promise<undefined> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
