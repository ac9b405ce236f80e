import type { DispatchSummary, Trace, TraceHop, TraceNext } from "@rootstock/protocol";
import type { DispatchRow, TraceFacts } from "@rootstock/store";
import {
  attemptOf,
  claimedHop,
  ownerInWords,
  pastAttempts,
  reachedAgain,
  replicaOf,
  secondsAfter,
  silentOwner,
  timeOf,
  unreachable,
  wasGivenBack,
} from "./hops.ts";
import type { TraceLimits } from "./limits.ts";

export interface DispatchTraceInput {
  readonly dispatch: DispatchRow;
  readonly facts: TraceFacts;
  readonly limits: TraceLimits;
}

/** The trace of a lifecycle operation. */
export const dispatchTrace = (input: DispatchTraceInput): Trace => {
  const { dispatch: d } = input;
  const { hops, since } = hopsOf(input);
  return {
    id: d.id,
    kind: "dispatch",
    op: d.op,
    state: d.state,
    ...(d.project_id && { projectId: d.project_id }),
    ...(d.agent_id && { agent: { id: d.agent_id, slug: d.agent_slug } }),
    attempts: d.attempts,
    maxAttempts: d.max_attempts,
    ...(d.error && { error: d.error }),
    ...(d.traceparent && { traceparent: d.traceparent }),
    hops,
    ...(input.facts.hopsOmitted && { hopsOmitted: true }),
    ...(d.state === "pending" && { waiting: { since: timeOf(since), reasons: waitsFor(input) } }),
    next: nextOf(input),
  };
};

/** The operation in a list. */
export const dispatchSummary = (d: DispatchRow): DispatchSummary => ({
  id: d.id,
  op: d.op,
  state: d.state,
  attempts: d.attempts,
  ...(d.error && { error: d.error }),
  createdAt: timeOf(d.created_at),
  updatedAt: timeOf(d.updated_at),
});

const hopsOf = ({
  dispatch: d,
  facts,
}: DispatchTraceInput): { readonly hops: readonly TraceHop[]; readonly since: Date } => {
  const past = pastAttempts(facts, d.created_at);
  const hops: TraceHop[] = [
    { event: "accepted", at: timeOf(d.created_at), ...replicaOf(facts, d.accepted_by) },
    ...past.hops,
  ];
  const attempt = attemptOf(facts, {
    replicaId: d.claimed_by,
    runtimeBrokerId: d.runtime_broker_id,
    sessionId: d.claim_session,
    attempt: d.attempts,
  });
  // Without a claim it was given back last, and that hop has told it.
  if (d.claimed_at && d.claimed_by && !wasGivenBack(facts, d.claimed_at))
    hops.push(claimedHop(attempt, { at: d.claimed_at, since: past.since, waitedFor: d.hold_reason }));
  if (d.state === "done") hops.push({ event: "done", at: timeOf(d.updated_at), ...attempt });
  if (d.state === "failed" || d.state === "expired")
    hops.push({
      event: d.state,
      at: timeOf(d.updated_at),
      ...(d.claimed_by && attempt),
      ...(d.error && { reason: d.error }),
    });
  return { hops, since: past.since };
};

const waitsFor = ({ dispatch, facts }: DispatchTraceInput): string[] => {
  const away = unreachable(facts) ?? silentOwner(facts);
  const { operation } = facts.obstacles;
  const reasons = [
    ...(away ? [away] : []),
    ...(operation ? [`behind the operation ${operation.op} (${operation.id}), which is ${operation.state}`] : []),
  ];
  if (reasons.length > 0) return reasons;
  if (facts.hops.length > 0 && dispatch.hold_reason)
    return [`given back, and not taken again yet: ${dispatch.hold_reason}`];
  return [`replica ${ownerInWords(facts)}, which holds the runtime broker's socket, has not taken it yet`];
};

const CLAIMED_IN_TURN: TraceNext = {
  event: "claimed",
  when: "once what is before it on this agent, and what the runtime broker has now, has ended: then within seconds",
};

const nextOf = ({ dispatch: d, facts, limits }: DispatchTraceInput): TraceNext[] => {
  switch (d.state) {
    case "pending":
      return [
        reachedAgain(facts) ?? CLAIMED_IN_TURN,
        {
          event: "expired",
          at: timeOf(d.deadline_at),
          when: "if nobody has taken it by then; sooner if its caller gives up",
        },
      ];
    case "in_progress":
      return [
        { event: "done", when: "once the runtime broker has carried it out" },
        {
          event: "failed",
          at: secondsAfter(d.claimed_at ?? d.deadline_at, limits.overdueSeconds),
          when: "if there is no answer by then",
        },
        d.attempts < d.max_attempts
          ? {
              event: "given_back",
              when: "if the socket or its replica is lost; the next attempt asks before it repeats anything",
            }
          : { event: "failed", when: "if the socket or its replica is lost: this is the last attempt" },
      ];
    default:
      return [];
  }
};
