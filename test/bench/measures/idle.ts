import type { Bench } from "../bench.ts";
import { cpuOf, joinMany, startReplica } from "../cluster.ts";
import { residentBytes } from "../processUsage.ts";
import { atMost } from "../report.ts";
import { startWorker } from "../worker.ts";

/** How long a replica is left alone before its memory is read. */
const REST_MS = 8_000;

/**
 * Runtime brokers that only hang on one replica: its memory, and how long until all are online that dial at once. They
 * join through another one: what a thousand joins leave behind would hide what the sockets cost.
 */
export const idle: Bench = async ({ server, quick, say }) => {
  const count = quick ? 200 : 1_000;
  const database = await server.database();
  const rest = (ms = REST_MS) => new Promise((resolve) => setTimeout(resolve, quick ? ms / 8 : ms));
  const registrar = await startReplica({ databaseUrl: database.url, name: "registrar" });
  say(`${count} runtime brokers join`);
  const credentials = await joinMany(registrar, count);
  await registrar.stop();
  const replica = await startReplica({ databaseUrl: database.url, name: "idle" });
  await rest();
  const before = residentBytes(replica.pid);
  const peers = await startWorker("runtimeBrokers.ts");
  const dialled = await peers.call<number>(
    "dial",
    credentials.map((c) => ({ ...c, urls: [replica.url] })),
  );
  await rest();
  const after = residentBytes(replica.pid);
  const cpuBefore = cpuOf([replica], database);
  await rest(10_000);
  const cpu = (cpuOf([replica], database) - cpuBefore) / (quick ? 1_250 : 10_000);
  await peers.stop();
  await replica.stop();
  await database.drop();
  const bench = "idle";
  const megabytes = 1_048_576;
  const each = Math.max(after - before, 0) / count / 1024;
  return [
    { bench, name: "replica without runtime brokers", value: before / megabytes, unit: "MB" },
    { bench, name: `replica with ${count} idle runtime brokers`, value: after / megabytes, unit: "MB" },
    { bench, name: "each", value: each, unit: "KB", target: atMost(each, 40, "<= 40 KB") },
    {
      bench,
      name: `${count} that dial at once are online after`,
      value: dialled / 1000,
      unit: "s",
      target: atMost(dialled, 10_000, "<= 10 s"),
    },
    { bench, name: "CPU of replica and PostgreSQL meanwhile", value: cpu * 100, unit: "% of a core" },
  ];
};
