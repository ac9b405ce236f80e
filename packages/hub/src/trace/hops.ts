import type { TraceHop, TraceNext, TracePlace, Uuid } from "@rootstock/protocol";
import type { HopRow, TraceFacts } from "@rootstock/store";

/** RFC 3339, UTC, milliseconds. */
export const timeOf = (at: Date): string => at.toISOString();

export const secondsAfter = (at: Date, seconds: number): string => timeOf(new Date(at.getTime() + seconds * 1000));

const placeOf = (names: ReadonlyMap<Uuid, string>, id: Uuid | null | undefined): TracePlace | undefined => {
  if (!id) return undefined;
  const name = names.get(id);
  return name === undefined ? { id } : { id, name };
};

/** The replica with this id, with its name where that is known. */
export const replicaOf = (facts: TraceFacts, id: Uuid | null): { readonly replica?: TracePlace } => {
  const replica = placeOf(facts.replicas, id);
  return replica ? { replica } : {};
};

interface Attempt {
  readonly replicaId: Uuid | null;
  readonly runtimeBrokerId: Uuid | null;
  readonly sessionId: Uuid | null;
  readonly attempt: number | null;
}

/** Who made an attempt, over which socket. */
export const attemptOf = (facts: TraceFacts, a: Attempt): Omit<TraceHop, "event"> => {
  const runtimeBroker = placeOf(facts.runtimeBrokers, a.runtimeBrokerId);
  return {
    ...replicaOf(facts, a.replicaId),
    ...(runtimeBroker && { runtimeBroker }),
    ...(a.sessionId && { session: a.sessionId }),
    // None: a database that crashed has forgotten the claim, and the acknowledgement counts all the same.
    ...(a.attempt !== null && a.attempt > 0 && { attempt: a.attempt }),
  };
};

/** A claim: since when it had waited, and for what. */
export const claimedHop = (
  attempt: Omit<TraceHop, "event">,
  p: { readonly at: Date; readonly since: Date; readonly waitedFor: string | null | undefined },
): TraceHop => ({
  event: "claimed",
  at: timeOf(p.at),
  ...attempt,
  // The clock of one statement may be read before that of another which it saw committed.
  waitedMs: Math.max(0, p.at.getTime() - p.since.getTime()),
  ...(p.waitedFor && { waitedFor: p.waitedFor }),
});

/** The attempts that came to nothing, each as its claim and its end; and since when it has waited after the last. */
export const pastAttempts = (
  facts: TraceFacts,
  accepted: Date,
): { readonly hops: readonly TraceHop[]; readonly since: Date; readonly failed: boolean } => {
  const hops: TraceHop[] = [];
  let before: HopRow | undefined;
  for (const row of facts.hops) {
    const attempt = attemptOf(facts, {
      replicaId: row.replica_id,
      runtimeBrokerId: row.runtime_broker_id,
      sessionId: row.session_id,
      attempt: row.attempt,
    });
    if (row.claimed_at) {
      // What was repeated after this claim is no end of the wait before it.
      const later = before && before.times > 1 && before.last_at > row.claimed_at;
      const since = (later ? before?.at : before?.last_at) ?? accepted;
      hops.push(claimedHop(attempt, { at: row.claimed_at, since, waitedFor: row.waited_for }));
    }
    hops.push({ event: row.event, at: timeOf(row.at), ...attempt, reason: row.reason, ...repeated(row) });
    before = row;
  }
  return {
    hops,
    since: latestHop(facts)?.last_at ?? accepted,
    failed: facts.hops.some((h) => h.event === "failed"),
  };
};

/** What came to nothing last. Not the newest row: one that was there for the same reason before is counted on. */
export const latestHop = ({ hops }: TraceFacts): HopRow | undefined =>
  hops.reduce<HopRow | undefined>((latest, row) => (latest && latest.last_at > row.last_at ? latest : row), undefined);

/**
 * Whether this claim was given back last: what is acknowledged after that counts while the socket is still the runtime
 * broker's own, and is no new attempt.
 */
export const wasGivenBack = (facts: TraceFacts, claimedAt: Date): boolean => {
  const last = latestHop(facts);
  if (!last?.claimed_at) return false;
  return last.times > 1 ? claimedAt < last.last_at : claimedAt.getTime() === last.claimed_at.getTime();
};

const repeated = (row: HopRow): Pick<TraceHop, "times" | "lastAt"> =>
  row.times > 1 ? { times: row.times, lastAt: timeOf(row.last_at) } : {};

/** Why nobody takes it up where that lies in the socket: undefined when a replica holds it. */
export const unreachable = (facts: TraceFacts): string | undefined => {
  const { runtimeBroker } = facts;
  if (!runtimeBroker) return "the agent has no runtime broker";
  if (runtimeBroker.connectedHubId !== null) return undefined;
  return runtimeBroker.disconnectedAt === null
    ? `owner unknown: runtime broker ${runtimeBroker.name} has not connected yet`
    : `owner unknown: waiting for reconnect of runtime broker ${runtimeBroker.name} since ${timeOf(runtimeBroker.disconnectedAt)}`;
};

/** Replicas say every 2 s that they live: one that has not for so long hangs, or is dead and not yet buried. */
const SILENT_MS = 5_000;

/** Why nobody takes it up although a replica holds the socket: it is not heard of any more. */
export const silentOwner = (facts: TraceFacts): string | undefined => {
  const { runtimeBroker: rb, now } = facts;
  if (!rb?.connectedHubId) return undefined;
  const seen = rb.ownerSeenAt;
  if (seen && now.getTime() - seen.getTime() < SILENT_MS) return undefined;
  const since = seen ? `not been heard of since ${timeOf(seen)}` : "gone";
  return `replica ${ownerInWords(facts)}, which held the runtime broker's socket, has ${since}`;
};

/** What has to happen before anybody takes it up, where that lies in the socket or in who holds it. */
export const reachedAgain = (facts: TraceFacts): TraceNext | undefined => {
  if (unreachable(facts)) return { event: "claimed", when: "once the runtime broker connects, to whichever replica" };
  if (!silentOwner(facts)) return undefined;
  return { event: "claimed", when: "once that replica is back, or the runtime broker has connected to another" };
};

/** The replica that should take it up, in words. */
export const ownerInWords = (facts: TraceFacts): string => {
  const id = facts.runtimeBroker?.connectedHubId ?? "";
  return facts.replicas.get(id) ?? id;
};
