import { randomBytes, randomUUID } from "node:crypto";
import { SecretBox } from "@rootstock/hub";
import { systemClock, systemRandom } from "@rootstock/service";
import { TEST_SECRET } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { type BenchDatabase, startReplica } from "../cluster.ts";
import type { Beaten, IdlePeer, IdleSetup } from "../processes/idlePeers.ts";
import { cpuMs, residentBytes } from "../processUsage.ts";
import { atMost, type Figure } from "../report.ts";
import { startWorker } from "../worker.ts";

const COUNT = 10_000;
const WORKERS = 4;
/** How long a replica is left alone before its memory is read. */
const REST_MS = 8_000;
/** Two turns of heartbeats before the cost of them is measured, and one while. */
const SETTLE_MS = 60_000;
const MEASURE_MS = 30_000;

interface State {
  readonly online: number;
  readonly redials: number;
  readonly refusals: ReadonlyMap<string, number>;
}

/** Registered runtime brokers with a secret each, as their joins would leave them. */
const register = async (database: BenchDatabase, count: number): Promise<IdlePeer[]> => {
  const box = new SecretBox({ secrets: [TEST_SECRET], clock: systemClock, random: systemRandom });
  const made = await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const [brokerId, secretId, key] = [randomUUID(), randomUUID(), randomBytes(32)];
      const sealed = await box.seal("runtime-broker-secret", secretId, key);
      return { brokerId, secretId, key, name: `idle-${i}`, sealed };
    }),
  );
  await database.query(
    "insert into runtime_brokers (id, name, slug) select id, name, name from unnest($1::uuid[], $2::text[]) as m(id, name)",
    [made.map((m) => m.brokerId), made.map((m) => m.name)],
  );
  await database.query(
    `insert into broker_secrets (id, runtime_broker_id, secret)
     select id, rb, decode(secret, 'hex') from unnest($1::uuid[], $2::uuid[], $3::text[]) as m(id, rb, secret)`,
    [made.map((m) => m.secretId), made.map((m) => m.brokerId), made.map((m) => m.sealed.toString("hex"))],
  );
  return made.map(({ brokerId, key }) => ({ brokerId, secretKey: key.toString("base64") }));
};

/**
 * Runtime brokers that only hang on one replica: how long until all are online that dial at once, its memory, and what
 * their heartbeats and pings cost.
 */
export const idle: Bench = async ({ server, nodeOptions, quick, say }) => {
  const count = quick ? COUNT / 10 : COUNT;
  const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, quick ? ms / 8 : ms));
  const database = await server.database();
  const registered = await register(database, count);
  const replica = await startReplica({ databaseUrl: database.url, name: "idle", ...(nodeOptions && { nodeOptions }) });
  await rest(REST_MS);
  const before = residentBytes(replica.pid);
  const workers = await Promise.all(Array.from({ length: WORKERS }, () => startWorker("idlePeers.ts")));
  say(`${count} runtime brokers dial`);
  const dialled = Math.max(
    ...(await Promise.all(
      workers.map((worker, i) =>
        worker.call<number>("dial", {
          url: replica.url,
          peers: registered.filter((_, n) => n % WORKERS === i),
          localAddress: `127.0.0.${2 + i}`,
        } satisfies IdleSetup),
      ),
    )),
  );
  say(`online after ${Math.round(dialled)} ms; heartbeats`);
  await Promise.all(workers.map((worker) => worker.call("beat")));
  await rest(SETTLE_MS);
  const beats = () => Promise.all(workers.map((worker) => worker.call<Beaten>("beaten")));
  const sum = (values: readonly number[]) => values.reduce((total, v) => total + v, 0);
  const look = async () => ({
    sent: sum((await beats()).map((b) => b.sent)),
    replica: cpuMs(replica.pid),
    database: database.cpuMs(),
    at: performance.now(),
  });
  const begin = await look();
  await rest(MEASURE_MS);
  const end = await look();
  const after = residentBytes(replica.pid);
  const beaten = await beats();
  const states = await Promise.all(workers.map((worker) => worker.call<State>("state")));
  for (const [refusal, n] of states.flatMap((s) => [...s.refusals])) say(`refused ${n} times: ${refusal}`);
  for (const worker of workers) await worker.stop();
  await replica.stop();
  await database.drop();
  const bench = "idle";
  const megabytes = 1_048_576;
  const each = Math.max(after - before, 0) / count / 1024;
  const share = (ms: number) => (ms / (end.at - begin.at)) * 100;
  const none = (name: string, value: number): Figure => ({
    bench,
    name,
    value,
    unit: "",
    target: atMost(value, 0, "none"),
  });
  const replicaShare = share(end.replica - begin.replica);
  const databaseShare = share(end.database - begin.database);
  return [
    {
      bench,
      name: `${count} that dial at once are online after`,
      value: dialled / 1000,
      unit: "s",
      target: atMost(dialled, 15_000, "<= 15 s"),
    },
    { bench, name: "replica without runtime brokers", value: before / megabytes, unit: "MB" },
    { bench, name: `replica with ${count} idle runtime brokers`, value: after / megabytes, unit: "MB" },
    { bench, name: "each", value: each, unit: "KB", target: atMost(each, 40, "<= 40 KB") },
    {
      bench,
      name: "replica, with a heartbeat and pings of each every 30 s",
      value: replicaShare,
      unit: "% of a core",
      target: atMost(replicaShare, 15, "<= 15 %"),
    },
    {
      bench,
      name: "PostgreSQL meanwhile",
      value: databaseShare,
      unit: "% of a core",
      target: atMost(databaseShare, 10, "<= 10 %"),
    },
    // On a machine that is too busy to send them all the shares above are too small.
    { bench, name: "heartbeats meanwhile", value: ((end.sent - begin.sent) / (end.at - begin.at)) * 1_000, unit: "/s" },
    { bench, name: "a heartbeat, p50", value: Math.max(...beaten.map((b) => b.p50)), unit: "ms" },
    { bench, name: "a heartbeat, p99", value: Math.max(...beaten.map((b) => b.p99)), unit: "ms" },
    none("heartbeats refused", sum(beaten.map((b) => b.refused))),
    none("offline at the end", count - sum(states.map((s) => s.online))),
    { bench, name: "redials", value: sum(states.map((s) => s.redials)), unit: "" },
  ];
};
