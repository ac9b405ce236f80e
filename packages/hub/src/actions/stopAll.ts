import { HubError, type Uuid } from "@rootstock/protocol";
import { Semaphore } from "@rootstock/service";
import { type DispatchTarget, runningTargets } from "@rootstock/store";
import { decide } from "../auth/index.ts";
import { changeLifecycle } from "./changeLifecycle.ts";
import { type ActionCall, type ActionDeps, targetResource } from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/** So many at once: a serial runtime broker works them off one by one anyway, and the others share the pool. */
const AT_ONCE = 16;

interface StopResult {
  readonly id: Uuid;
  readonly name: string;
  readonly status: "stopped" | "error";
  readonly error?: string;
}

/** Stops every running agent of a project, or of all, that the caller may stop (spec/02 2.8). No cap on their number. */
export const stopAll = async (deps: ActionDeps, call: ActionCall, projectId: Uuid | null): Promise<Answer> => {
  const running = await runningTargets(deps.database.db, projectId);
  const mine = running.filter((t) => decide(call.principal, "lifecycle", targetResource(t)).allow);
  const gate = new Semaphore(AT_ONCE);
  // Without a key: each agent's stop is harmless to repeat, and one key cannot stand for many operations.
  const unkeyed = { ...call, headers: new Headers() };
  const results = await Promise.all(mine.map((target) => gate.run(() => stopOne(deps, unkeyed, target))));
  const stopped = results.filter((r) => r.status === "stopped").length;
  return {
    status: 200,
    body: {
      stopped,
      failed: results.length - stopped,
      total: results.length,
      scope: mine.length === running.length ? "all" : "own",
      results,
    },
  };
};

const stopOne = async (deps: ActionDeps, call: ActionCall, target: DispatchTarget): Promise<StopResult> => {
  const { id, name } = target.agent;
  try {
    await changeLifecycle(deps, call, target, "stop");
    return { id, name, status: "stopped" };
  } catch (err) {
    if (!(err instanceof HubError)) throw err;
    return { id, name, status: "error", error: err.message };
  }
};
