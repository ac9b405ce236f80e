import type { Random } from "@rootstock/service";
import {
  agentsToPurge,
  type Database,
  type Db,
  deleteEndedStreams,
  deleteExpiredIdempotencyKeys,
  deleteExpiredJoinTokens,
  deleteExpiredSecrets,
  deleteExpiredSignIns,
  deleteFinishedDispatches,
  deleteFullBuckets,
  deleteOldAccessTokens,
  deleteOldAuthResets,
  deleteOldHops,
  deleteOldLogins,
  deleteOldMessages,
  deleteOldNonces,
  deleteOldReplicaNames,
  deleteStrayStreamFrames,
  expireDispatches,
  failOverdueDispatches,
  failUndeliveredMessages,
  leaveEndedMessages,
  markAgentsOffline,
  markAgentsStalled,
  markSilentRuntimeBrokersOffline,
  messagePages,
  pruneAudit,
  pruneChangeLog,
  purgeDeletedAgents,
  type Signaller,
  takeBackStaleClaims,
  trimDeliveredEnvelopes,
} from "@rootstock/store";
import { CONTROL_DEFAULTS } from "../control/index.ts";
import type { AgentConfigs } from "../secrets/index.ts";
import type { Sweep } from "./sweeper.ts";

export interface StandardSweepOptions {
  readonly random: Pick<Random, "fraction">;
  readonly database: Database;
  readonly signaller: Signaller;
  readonly agentConfigs: Pick<AgentConfigs, "sealAll">;
  /** How long soft-deleted agents may be restored, in seconds. */
  readonly softDeleteSeconds: number;
  /** How long a message waits for its agent, in seconds. */
  readonly undeliveredMessageSeconds: number;
  /** How long messages are kept once they have come to their end, in seconds; 0: for ever. */
  readonly historySeconds: number;
  /** How far back event streams can be resumed, in seconds. */
  readonly feedSeconds: number;
  /** How long an agent may do nothing before it counts as stalled, in seconds. */
  readonly stalledAfterSeconds: number;
  /** How long the audit log is kept, in seconds; 0: for ever. */
  readonly auditSeconds: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const WEEK_SECONDS = 7 * 24 * 3_600;

/** An agent not heard of for this long is offline (spec/02 2.4). */
const SILENT_AGENT_SECONDS = 120;
/** A socket may be redialled within this time without the runtime broker counting as offline. */
const REDIAL_GRACE_MS = 5_000;
/** A runtime broker that still sends heartbeats gets as long as calls wait for its return. */
const HEARTBEAT_GRACE_MS = 90_000;
/** A claimant gives its own work back within this time after its socket has ended. */
const STALE_CLAIM_SECONDS = 5;
/** Longer than any operation is under way: it asks its runtime broker for three things at most, each within the limit of a request. */
export const OVERDUE_SECONDS = (4 * CONTROL_DEFAULTS.requestLimitMs) / 1000;
/** Frames of streams are taken within a second; after a minute both ends have given the stream up. */
const STRAY_FRAME_SECONDS = 60;
/** A signature from a clock five minutes ahead is accepted for ten minutes; one more for the clocks of replicas. */
const NONCE_MS = 11 * MINUTE;
/** Messages outlive their replicas by far: a name costs little, and says more than an id. */
const REPLICA_NAME_SECONDS = 90 * 24 * 3_600;
/** How long it can be looked up who got a new token. */
const AUTH_RESET_SECONDS = 30 * 24 * 3_600;
/** How long a list tells of tokens for programs that count no more. */
const ACCESS_TOKEN_SECONDS = 90 * 24 * 3_600;
const CHANGE_LOG_ROWS = 2_000_000;
/** How often all messages are looked through while one grows old. */
const LOOKS_AT_A_MESSAGE = 10;
/** Pages of messages that one statement looks through: 4 MB. */
const PAGES_AT_ONCE = 500;

/** Every sweep but that of the replicas: who is gone, what waits too long, and what has been kept long enough. */
export const standardSweeps = (options: StandardSweepOptions): readonly Sweep[] => {
  const { database, signaller, agentConfigs } = options;

  /** Repeats `work` while it finds as much as it takes at once. */
  const chunks = async (signal: AbortSignal, limit: number, work: (db: Db, limit: number) => Promise<number>) => {
    let total = 0;
    while (!signal.aborted) {
      const changed = await database.background(() => work(database.db, limit));
      total += changed;
      if (changed < limit) break;
    }
    return total;
  };
  const sweep = (
    name: Sweep["name"],
    intervalMs: number,
    limit: number,
    work: (db: Db, limit: number) => Promise<number>,
    after: () => void = () => {},
  ): Sweep => ({
    name,
    intervalMs,
    runOnce: async (signal) => {
      const changed = await chunks(signal, limit, work);
      if (changed > 0) after();
      return changed;
    },
  });
  const payloadSeconds = options.historySeconds > 0 ? Math.min(WEEK_SECONDS, options.historySeconds) : WEEK_SECONDS;
  const tellChanges = () => signaller.changed();
  const done = (ids: readonly string[]): number => {
    signaller.done(ids);
    return ids.length;
  };

  return [
    {
      name: "stuckDispatches",
      intervalMs: 5 * SECOND,
      runOnce: async (signal) =>
        (await chunks(signal, 500, async (db, limit) => done(await expireDispatches(db, limit)))) +
        (await chunks(signal, 500, async (db, limit) =>
          done(await failOverdueDispatches(db, { overdueSeconds: OVERDUE_SECONDS, limit })),
        )) +
        (await chunks(signal, 100, async (db, limit) => {
          const { wake, failed } = await takeBackStaleClaims(db, { staleSeconds: STALE_CLAIM_SECONDS, limit });
          signaller.wake(wake);
          done(failed);
          return wake.length + failed.length;
        })),
    },
    sweep(
      "undeliveredMessages",
      MINUTE,
      500,
      async (db, limit) =>
        done(await failUndeliveredMessages(db, { maxAgeSeconds: options.undeliveredMessageSeconds, limit })),
      tellChanges,
    ),
    sweep(
      "offlineAgents",
      30 * SECOND,
      500,
      (db, limit) => markAgentsOffline(db, { silentSeconds: SILENT_AGENT_SECONDS, limit }),
      tellChanges,
    ),
    sweep(
      "stalledAgents",
      30 * SECOND,
      500,
      (db, limit) =>
        markAgentsStalled(db, {
          stalledSeconds: options.stalledAfterSeconds,
          silentSeconds: SILENT_AGENT_SECONDS,
          limit,
        }),
      tellChanges,
    ),
    sweep(
      "offlineRuntimeBrokers",
      2 * SECOND,
      500,
      async (db, limit) =>
        (
          await markSilentRuntimeBrokersOffline(db, {
            redialGraceMs: REDIAL_GRACE_MS,
            heartbeatGraceMs: HEARTBEAT_GRACE_MS,
            limit,
          })
        ).length,
      tellChanges,
    ),
    {
      name: "deletedAgents",
      intervalMs: 10 * MINUTE,
      runOnce: async (signal) => {
        const purged = await chunks(signal, 100, async (db, limit) => {
          const due = { retentionSeconds: options.softDeleteSeconds, limit };
          for (const agentId of await agentsToPurge(db, due)) await leaveEndedMessages(db, agentId, signal);
          return signal.aborted ? 0 : purgeDeletedAgents(db, due);
        });
        if (purged > 0) tellChanges();
        return purged;
      },
    },
    sweep("streamFrames", MINUTE, 10_000, (db, limit) =>
      deleteStrayStreamFrames(db, { olderThanSeconds: STRAY_FRAME_SECONDS, limit }),
    ),
    sweep("seenNonces", MINUTE, 10_000, (db, limit) => deleteOldNonces(db, NONCE_MS, limit)),
    {
      name: "joinTokens",
      intervalMs: 10 * MINUTE,
      // And the secrets that rotation has left behind. Few per runtime broker: no need for chunks.
      runOnce: async (signal) =>
        signal.aborted
          ? 0
          : (await database.background(() => deleteExpiredJoinTokens(database.db))) +
            (await database.background(() => deleteExpiredSecrets(database.db))),
    },
    {
      // What replicas of the release before have written, once they are gone.
      name: "unsealedConfigs",
      intervalMs: 10 * SECOND,
      runOnce: async (signal) => {
        const sealed = await agentConfigs.sealAll(database, signal);
        if (sealed > 0) tellChanges();
        return sealed;
      },
    },
    sweep("idempotencyKeys", 10 * MINUTE, 1_000, deleteExpiredIdempotencyKeys),
    {
      name: "signIns",
      intervalMs: 10 * MINUTE,
      runOnce: async (signal) =>
        (await chunks(signal, 1_000, deleteExpiredSignIns)) +
        (await chunks(signal, 1_000, deleteOldLogins)) +
        (await chunks(signal, 1_000, (db, limit) =>
          deleteOldAccessTokens(db, { maxAgeSeconds: ACCESS_TOKEN_SECONDS, limit }),
        )),
    },
    sweep("rateBuckets", MINUTE, 5_000, deleteFullBuckets),
    sweep("openStreams", MINUTE, 1_000, deleteEndedStreams),
    ...(options.auditSeconds > 0
      ? [
          sweep("auditLog", HOUR, 5_000, (db: Db, limit) =>
            pruneAudit(db, { maxAgeSeconds: options.auditSeconds, limit }),
          ),
        ]
      : []),
    // Often: what a busy hour leaves behind is not to be deleted in one go.
    sweep("changeLog", Math.min(MINUTE, tenthOf(options.feedSeconds)), 10_000, (db, limit) =>
      pruneChangeLog(db, { maxAgeSeconds: options.feedSeconds, maxRows: CHANGE_LOG_ROWS, limit }),
    ),
    ...(options.historySeconds > 0 ? [oldMessages(options, options.historySeconds)] : []),
    {
      name: "oldPayloads",
      intervalMs: Math.min(HOUR, tenthOf(payloadSeconds)),
      runOnce: async (signal) =>
        (await chunks(signal, 5_000, (db, limit) =>
          deleteFinishedDispatches(db, { maxAgeSeconds: payloadSeconds, limit }),
        )) +
        (await chunks(signal, 1_000, (db, limit) =>
          trimDeliveredEnvelopes(db, { maxAgeSeconds: payloadSeconds, limit }),
        )) +
        (await chunks(signal, 5_000, (db, limit) =>
          // What still waits keeps its hops.
          deleteOldHops(db, { maxAgeSeconds: WEEK_SECONDS + options.undeliveredMessageSeconds, limit }),
        )) +
        (await chunks(signal, 100, (db, limit) =>
          deleteOldAuthResets(db, { maxAgeSeconds: AUTH_RESET_SECONDS, limit }),
        )) +
        (await chunks(signal, 1_000, (db, limit) =>
          deleteOldReplicaNames(db, { maxAgeSeconds: REPLICA_NAME_SECONDS, limit }),
        )),
    },
  ];
};

/** A tenth of so many seconds, in milliseconds. */
const tenthOf = (seconds: number): number => Math.max(100 * seconds, SECOND);

/**
 * Deletes old messages, a piece of the table after the other; each tick goes on where the one before of this replica ended.
 * A replica begins anywhere: a pass takes days, and replicas that are restarted more often would never see the last pages.
 */
const oldMessages = (
  { database, random }: Pick<StandardSweepOptions, "database" | "random">,
  historySeconds: number,
): Sweep => {
  const intervalMs = Math.min(MINUTE, tenthOf(historySeconds));
  let place: number | undefined;
  return {
    name: "oldMessages",
    intervalMs,
    runOnce: async (signal) => {
      const total = await database.background(() => messagePages(database.db));
      const share = Math.min(1, (LOOKS_AT_A_MESSAGE * intervalMs) / (historySeconds * SECOND));
      let deleted = 0;
      for (let left = Math.ceil(total * share); left > 0 && !signal.aborted; left -= PAGES_AT_ONCE) {
        place ??= Math.floor(random.fraction() * total);
        const fromPage = place >= total ? 0 : place;
        const pages = Math.min(left, PAGES_AT_ONCE);
        place = fromPage + pages;
        deleted += await database.background(() =>
          deleteOldMessages(database.db, { fromPage, pages, maxAgeSeconds: historySeconds }),
        );
      }
      return deleted;
    },
  };
};
