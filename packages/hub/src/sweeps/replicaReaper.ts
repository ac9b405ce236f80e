import type { Base } from "@rootstock/service";
import {
  buryReplica,
  type Coordination,
  type Database,
  type DeathRules,
  findSuspectReplicas,
  type Signaller,
  type SuspectReplica,
} from "@rootstock/store";
import type { Membership } from "../replicas/index.ts";
import type { Sweep } from "./sweeper.ts";

export interface ReplicaReaperOptions {
  readonly database: Database;
  readonly coordination: Coordination;
  readonly signaller: Signaller;
  /** This replica, which does not bury itself. */
  readonly membership: Pick<Membership, "instanceId" | "renewedForMs">;
  readonly rules?: DeathRules;
  /** Milliseconds for which the own coordination connection must have stood and the own lease been renewed; 5,000 by default. */
  readonly graceMs?: number;
  /** Milliseconds between the two looks that a missing lock takes; 1,000 by default. */
  readonly secondLookMs?: number;
}

const RULES: DeathRules = { leaseSeconds: 10, unseenSeconds: 3 };

/**
 * Buries dead replicas (design section 3, "Replica liveness"). After a restart of the database nobody holds a lock and
 * nobody was seen lately, and after a time in which it took no writes nobody was seen either: so nothing counts until the own
 * coordination connection has stood, and the own lease been renewed, for longer than the others need to come back; and a
 * lock must be missing twice, a second apart.
 */
export const replicaReaper = (base: Base, options: ReplicaReaperOptions): Sweep => {
  const { database, coordination, signaller, membership } = options;
  const { rules = RULES, graceMs = 5_000, secondLookMs = 1_000 } = options;
  const mayJudge = () =>
    coordination.held() && Math.min(coordination.heldForMs(), membership.renewedForMs()) >= graceMs;

  const look = async (): Promise<readonly SuspectReplica[]> => {
    const found = await database.background(() => findSuspectReplicas(database.db, rules));
    // Behind a pooler this replica holds no lock itself, and cannot tell what the others' mean.
    return found.filter(
      (r) => r.instanceId !== membership.instanceId && (r.reason === "lease over" || !coordination.pooled()),
    );
  };

  const bury = async (replica: SuspectReplica): Promise<boolean> => {
    const legacy = await database.background(() => buryReplica(database.db, replica.instanceId, rules));
    if (!legacy) return false;
    const { reason, ...dead } = replica;
    base.log.warn(
      { dead, reason, runtimeBrokersWithWork: legacy.wake.length, failed: legacy.failed.length },
      "replica dead",
    );
    signaller.wake(legacy.wake);
    signaller.done(legacy.failed);
    signaller.changed();
    return true;
  };

  return {
    name: "replicaReaper",
    intervalMs: 1_000,
    runOnce: async (signal) => {
      if (!mayJudge()) return 0;
      const first = await look();
      const certain = first.filter((r) => r.reason === "lease over");
      const missing = new Set(first.filter((r) => r.reason === "lock missing").map((r) => r.instanceId));
      if (missing.size > 0) {
        await base.clock.sleep(secondLookMs, signal);
        if (signal.aborted || !mayJudge()) return 0;
        certain.push(...(await look()).filter((r) => missing.has(r.instanceId)));
      }
      let buried = 0;
      for (const replica of certain) if (!signal.aborted && (await bury(replica))) buried += 1;
      return buried;
    },
  };
};
