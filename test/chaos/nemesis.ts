import { systemClock } from "@rootstock/service";
import type { OwnedPostgres } from "@rootstock/testkit";
import pg from "pg";
import type { Fleet } from "./fleet.ts";
import type { History } from "./history.ts";
import type { RecordedRuntimeBroker } from "./runtimeBrokers.ts";
import type { Fault, Planned } from "./schedule.ts";

export interface NemesisTargets {
  readonly fleet: Fleet;
  readonly postgres: OwnedPostgres;
  readonly databaseUrl: string;
  readonly runtimeBrokers: readonly RecordedRuntimeBroker[];
  readonly history: History;
}

/** A statement that is not to be had is not waited for any longer, in milliseconds. */
const LOSES_WITHIN_MS = 3_000;

/** Carries out a schedule. Resolves when the last fault has been healed; what cannot strike any more is left out. */
export const unleash = async (targets: NemesisTargets, schedule: readonly Planned[]): Promise<void> => {
  const began = targets.history.now();
  const database = { busy: false };
  await Promise.all(
    schedule.map(async ({ atMs, fault }) => {
      await systemClock.sleep(Math.max(0, atMs - (targets.history.now() - began)));
      const from = targets.history.now();
      const struck = await strike(targets, fault, database);
      if (struck) targets.history.addFault(from, { what: fault.kind, ...victim(targets, fault) });
    }),
  );
};

const victim = (
  { fleet, runtimeBrokers }: NemesisTargets,
  fault: Fault,
): { replica?: string; runtimeBroker?: string } => {
  if ("replica" in fault) return { replica: fleet.name(fault.replica) };
  if ("runtimeBroker" in fault) return { runtimeBroker: runtimeBrokers[fault.runtimeBroker]?.id ?? "" };
  return {};
};

/** False when the fault found nobody to strike. */
const strike = async (targets: NemesisTargets, fault: Fault, database: { busy: boolean }): Promise<boolean> => {
  const { fleet, postgres, runtimeBrokers } = targets;
  switch (fault.kind) {
    case "kill":
    case "terminate":
      return fleet.withProcess(fault.replica, async (replica) => {
        if (fault.kind === "kill") fleet.remove(fault.replica);
        replica.signal(fault.kind === "kill" ? "SIGKILL" : "SIGTERM");
        await replica.exited;
        fleet.remove(fault.replica);
        await systemClock.sleep(fault.downMs);
        await fleet.fill(fault.replica, fault.version ?? fault.replica);
      });
    case "pause":
      return fleet.withProcess(fault.replica, async (replica) => {
        replica.signal("SIGSTOP");
        await systemClock.sleep(fault.forMs);
        replica.signal("SIGCONT");
      });
    case "cut":
      fleet.proxy(fault.replica).cut(fault.connections);
      return true;
    case "lose answer": {
      const proxy = fleet.proxy(fault.replica);
      const lost = proxy.loseAnswer(fault.statement).then(() => true);
      const struck = await Promise.race([lost, systemClock.sleep(LOSES_WITHIN_MS).then(() => false)]);
      if (!struck) proxy.keepAnswers();
      return struck;
    }
    case "end backends":
      await endBackends(targets, fleet.name(fault.replica));
      return true;
    case "deafen": {
      const proxy = fleet.proxy(fault.replica);
      proxy.deaf = true;
      await systemClock.sleep(fault.forMs);
      proxy.deaf = false;
      return true;
    }
    case "hang":
    case "hang database": {
      const proxies = fault.kind === "hang" ? [fleet.proxy(fault.replica)] : fleet.proxies;
      for (const proxy of proxies) proxy.hung = true;
      await systemClock.sleep(fault.forMs);
      for (const proxy of proxies) proxy.hung = false;
      return true;
    }
    case "slow commits": {
      const proxy = fleet.proxy(fault.replica);
      proxy.commitsWaitMs = fault.byMs;
      await systemClock.sleep(fault.forMs);
      proxy.commitsWaitMs = 0;
      return true;
    }
    case "skew clock":
      await fleet.skewClock(fault.replica, fault.byMs);
      await systemClock.sleep(fault.forMs);
      await fleet.skewClock(fault.replica, 0);
      return true;
    case "restart database":
    case "crash database": {
      if (database.busy) return false;
      database.busy = true;
      await (fault.kind === "crash database" ? postgres.crash() : postgres.takeDown());
      await systemClock.sleep(fault.downMs);
      await postgres.bringUp();
      database.busy = false;
      return true;
    }
    case "flap":
      for (let i = 0; i < fault.times; i += 1) {
        runtimeBrokers[fault.runtimeBroker]?.peer.cut();
        await systemClock.sleep(40);
      }
      return true;
    case "away": {
      const one = runtimeBrokers[fault.runtimeBroker];
      if (!one) return false;
      one.away = true;
      one.peer.cut();
      await systemClock.sleep(fault.forMs);
      one.away = false;
      return true;
    }
    case "half open": {
      const peer = runtimeBrokers[fault.runtimeBroker]?.peer;
      if (!peer?.session) return false;
      peer.loseFrames();
      await systemClock.sleep(fault.forMs);
      peer.abandon();
      return true;
    }
    case "late answers":
      for (let i = 0; i < fault.times; i += 1) {
        await systemClock.sleep(fault.everyMs);
        runtimeBrokers[fault.runtimeBroker]?.peer.abandon();
      }
      return true;
    case "slow answers": {
      const one = runtimeBrokers[fault.runtimeBroker];
      if (!one) return false;
      one.delayMs = fault.byMs;
      await systemClock.sleep(fault.forMs);
      one.delayMs = 0;
      return true;
    }
  }
};

/** The server ends every connection of the replica, as an operator or a failover does. */
const endBackends = async ({ databaseUrl }: NemesisTargets, replica: string): Promise<void> => {
  const client = new pg.Client({ connectionString: databaseUrl });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", [
      `rootstock ${replica}`,
    ]);
  } catch {
    // The database is away: its connections have ended anyway.
  } finally {
    await client.end().catch(() => {});
  }
};
