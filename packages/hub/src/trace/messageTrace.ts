import type { Trace, TraceHop, TraceNext } from "@rootstock/protocol";
import { type AgentView, broughtInBy, type MessageRow, MOST_COUNTED, type TraceFacts } from "@rootstock/store";
import { pauseAfterMs } from "../dispatch/index.ts";
import {
  attemptOf,
  claimedHop,
  latestHop,
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

export interface MessageTraceInput {
  readonly message: MessageRow;
  readonly facts: TraceFacts;
  /** The agent that is to receive it, or has sent it; undefined when it is gone. */
  readonly agent: AgentView | undefined;
  readonly limits: TraceLimits;
}

/** The trace of a message to an agent, or to a person. */
export const messageTrace = (input: MessageTraceInput): Trace => {
  const { message: m, agent } = input;
  const { hops, since } = hopsOf(input);
  const reasons = m.state === "pending" ? waitsFor(input) : [];
  return {
    id: m.id,
    kind: "message",
    state: m.state ?? "delivered",
    projectId: m.project_id,
    ...(agent && { agent: { id: agent.id, slug: agent.slug } }),
    attempts: m.attempts,
    ...(m.error && { error: m.error }),
    ...(m.traceparent && { traceparent: m.traceparent }),
    hops,
    ...(input.facts.hopsOmitted && { hopsOmitted: true }),
    ...(m.state === "pending" && { waiting: { since: timeOf(since), reasons } }),
    next: nextOf(input),
  };
};

const hopsOf = ({
  message: m,
  facts,
}: MessageTraceInput): { readonly hops: readonly TraceHop[]; readonly since: Date } => {
  const accepted: TraceHop = { event: "accepted", at: timeOf(m.created), ...acceptedFrom(m, facts) };
  if (m.state === null)
    return {
      hops: [accepted, { event: "delivered", at: timeOf(m.created), reason: "in the inbox" }],
      since: m.created,
    };
  const past = pastAttempts(facts, m.created);
  const hops = [accepted, ...past.hops];
  if (m.state === "failed" && !past.failed) hops.push({ event: "failed", ...(m.error && { reason: m.error }) });
  if (m.state === "pending" || m.state === "failed") return { hops, since: past.since };
  const attempt = attemptOf(facts, {
    replicaId: m.claimed_by,
    runtimeBrokerId: m.runtime_broker_id,
    sessionId: m.claim_session,
    attempt: m.attempts,
  });
  if (m.claimed_at && !wasGivenBack(facts, m.claimed_at)) {
    const waitedFor = m.hold_reason ?? (past.hops.length === 0 ? wentBefore(facts) : undefined);
    hops.push(claimedHop(attempt, { at: m.claimed_at, since: past.since, waitedFor }));
  }
  if (m.state === "delivered")
    hops.push({ event: "delivered", ...(m.dispatched_at && { at: timeOf(m.dispatched_at) }), ...attempt });
  return { hops, since: past.since };
};

/** Who accepted it; and of a message from outside, through which runtime broker it came and whom its plugin names. */
const acceptedFrom = (m: MessageRow, facts: TraceFacts): Omit<TraceHop, "event"> => {
  const runtimeBrokerId = broughtInBy(m);
  if (runtimeBrokerId === null) return replicaOf(facts, m.accepted_by);
  const outside = m.outside_sender_id === null ? m.sender : `${m.sender} (${m.outside_sender_id})`;
  return {
    ...attemptOf(facts, { replicaId: m.accepted_by, runtimeBrokerId, sessionId: null, attempt: null }),
    reason: `brought in by a plugin, from ${outside}`,
  };
};

const count = (n: number): string =>
  `${n >= MOST_COUNTED ? `${MOST_COUNTED} or more` : n} earlier ${n === 1 ? "message" : "messages"}`;

const wentBefore = ({ wentBefore: n }: TraceFacts): string | undefined => (n === 0 ? undefined : `behind ${count(n)}`);

/** Why a pending message is not under way: everything that holds now. */
const waitsFor = ({ message, facts, agent, limits }: MessageTraceInput): string[] => {
  const away = unreachable(facts) ?? silentOwner(facts);
  const { operation, earlierMessages } = facts.obstacles;
  const reasons = [
    ...(away ? [away] : []),
    ...(agent ? agentHolds(agent, facts.now, limits) : ["the agent is gone"]),
    ...(operation ? [`behind the operation ${operation.op} (${operation.id}), which is ${operation.state}`] : []),
    ...(earlierMessages > 0 ? [`behind ${count(earlierMessages)}`] : []),
  ];
  if (reasons.length > 0) return reasons;
  if (message.attempts > 0 && message.hold_reason)
    return [`given back, and not taken again yet: ${message.hold_reason}`];
  return [`replica ${ownerInWords(facts)}, which holds the runtime broker's socket, has not taken it yet`];
};

const agentHolds = (agent: AgentView, now: Date, limits: TraceLimits): string[] => {
  if (agent.deleted_at) return ["agent deleted: waits for its restore"];
  switch (agent.phase) {
    case "running":
      return listensAt(agent, now, limits) ? ["agent running, but it has reported no activity since its start"] : [];
    case "created":
    case "provisioning":
    case "cloning":
    case "starting":
      return [agent.phase === "starting" ? "agent starting" : `agent starting (${agent.phase})`];
    default:
      return [`agent not running (${agent.phase}): waits for its next start`];
  }
};

/** When a running agent is taken to listen, if that is still to come. */
const listensAt = (agent: AgentView, now: Date, limits: TraceLimits): string | undefined => {
  if (agent.ready_at || !agent.running_since) return undefined;
  const at = secondsAfter(agent.running_since, limits.listensAfterSeconds);
  return at > timeOf(now) ? at : undefined;
};

const nextOf = (input: MessageTraceInput): TraceNext[] => {
  const { message: m, facts, limits } = input;
  switch (m.state) {
    case "pending":
      // Nobody gives an agent another runtime broker.
      return [...(facts.runtimeBroker ? [claimNext(input)] : []), failureNext(input)];
    case "delivering":
      return [
        { event: "delivered", when: "once the runtime broker acknowledges it" },
        {
          event: "given_back",
          ...(m.claimed_at && { at: secondsAfter(m.claimed_at, limits.requestSeconds) }),
          when: "if there is no answer by then; at once if the socket or its replica is lost. It is sent again with the same id",
        },
      ];
    default:
      return [];
  }
};

/** When it is given up: it is too old, or its agent, which was deleted, can be restored no longer. */
const failureNext = ({ message: m, agent, limits }: MessageTraceInput): TraceNext => {
  const tooOldAt = secondsAfter(m.created, limits.messageSeconds);
  const purgedAt = agent?.deleted_at ? secondsAfter(agent.deleted_at, limits.softDeleteSeconds) : undefined;
  return purgedAt !== undefined && purgedAt < tooOldAt
    ? { event: "failed", at: purgedAt, when: "if the agent is not restored by then: it can be restored no longer" }
    : { event: "failed", at: tooOldAt, when: "if it is still waiting then" };
};

/** What has to happen before the next claim. */
const claimNext = ({ message: m, facts, agent, limits }: MessageTraceInput): TraceNext => {
  const reached = reachedAgain(facts);
  if (reached) return reached;
  if (!agent || agent.deleted_at) return { event: "claimed", when: "once the agent is restored and runs" };
  const at = listensAt(agent, facts.now, limits);
  if (at) return { event: "claimed", at, when: "at the latest; sooner if the agent reports an activity" };
  if (agent.phase !== "running") return { event: "claimed", when: "once the agent runs and has reported an activity" };
  const { operation, earlierMessages } = facts.obstacles;
  if (operation) return { event: "claimed", when: "once that operation has ended and the agent runs" };
  if (earlierMessages > 0)
    return { event: "claimed", when: "once what is before it has been delivered, or has failed" };
  const last = latestHop(facts);
  if (!last)
    return {
      event: "claimed",
      when: "at the owner's next look: within a second or two, or once the runtime broker has answered what it has now",
    };
  return {
    event: "claimed",
    at: secondsAfter(last.last_at, pauseAfterMs(m.attempts) / 1000),
    when: "at the latest about then: after a refusal the owner leaves the agent alone for a while",
  };
};
