import type { Bench } from "../bench.ts";
import { type BenchServer, cpuOf, messageBody } from "../cluster.ts";
import { startFleet } from "../fleet.ts";
import { bareHubFloor, type HttpFloor, storingHubFloor } from "../floors/bare.ts";
import { HttpLane } from "../httpLane.ts";
import { closedLoop } from "../load.ts";
import type { JobRun } from "../processes/jobQueue.ts";
import type { Account } from "../processes/runtimeBrokers.ts";
import { cpuMs } from "../processUsage.ts";
import { atLeast, atMost, type Figure, none, timesFigures } from "../report.ts";
import { Samples } from "../samples.ts";
import { startWorker } from "../worker.ts";

const LANES = 256;
const JOBS_AT_ONCE = 50;

/** How many calls a second the floor takes from as many senders as the hub has. */
const rateOf = async (floor: HttpFloor, quick: boolean): Promise<number> => {
  const body = messageBody("a line of text");
  const lanes = await Promise.all(
    Array.from({ length: LANES }, async () => {
      const lane = await HttpLane.open(floor.url, "none");
      return () => lane.request("POST", "/message", body);
    }),
  );
  const load = await closedLoop(lanes, { warmUpMs: 1_000, measureMs: quick ? 1_000 : 5_000 });
  await floor.close();
  return load.accepted / load.seconds;
};

/**
 * Sustained forwarded messages: every call lands on a replica that does not hold the agent's runtime broker. Replicas,
 * PostgreSQL, runtime brokers and senders share the machine.
 */
export const throughput: Bench = async ({ server, nodeOptions, quick, say }) => {
  const before = await rateOf(await bareHubFloor(), quick);
  const fleet = await startFleet({ server, nodeOptions, replicas: 3, runtimeBrokers: 50, agentsEach: 10 });
  const { database, replicas, peers } = fleet;
  const sent: string[] = [];
  const lanes = await fleet.senders(LANES, (text) => sent.push(text));
  say(`${LANES} senders, ${fleet.agents.length} agents`);
  const marks: { delivered: number; cpuMs: number; databaseMs: number }[] = [];
  const latency = new Samples();
  const rates: number[] = [];
  const load = await closedLoop(lanes, {
    warmUpMs: quick ? 2_000 : 15_000,
    measureMs: quick ? 3_000 : 20_000,
    latency,
    onMeasure: async () => {
      const [cpuMs, databaseMs] = [cpuOf(replicas, database), database.cpuMs()];
      marks.push({ delivered: (await peers.call<Account>("account")).delivered, cpuMs, databaseMs });
    },
    onSecond: async () => {
      rates.push((await peers.call<Account>("account")).delivered);
    },
  });
  const [begin, end] = marks;
  if (!begin || !end) throw new Error("not measured");
  say("waiting for what is under way");
  const missing = await settled(() => peers.call<string[]>("missing", sent));
  const account = await peers.call<Account>("account");
  await fleet.stop();
  const after = await rateOf(await bareHubFloor(), quick);
  const storing = await storingHubRate(server, quick);

  const bareHub = { name: "bare hub", value: (before + after) / 2 };
  const delivered = (end.delivered - begin.delivered) / load.seconds;
  const perSecond = rates.slice(1).map((n, i) => n - (rates[i] ?? 0));
  const perMessage = (end.cpuMs - begin.cpuMs) / (end.delivered - begin.delivered);
  const bench = "throughput";
  return [
    { bench, name: "floor: bare hub", value: bareHub.value, unit: "/s", spread: spreadOf([before, after]) },
    { bench, name: "floor: bare hub that stores", value: storing, unit: "/s", against: bareHub },
    {
      bench,
      name: "forwarded messages accepted",
      value: (load.accepted + load.acceptedLate) / load.seconds,
      unit: "/s",
      against: bareHub,
    },
    {
      bench,
      name: "forwarded messages delivered",
      value: delivered,
      unit: "/s",
      against: bareHub,
      spread: spreadOf(perSecond),
      target: atLeast(delivered, Math.max(2_500, 0.6 * bareHub.value), ">= 2,500/s and >= 0.6 x"),
    },
    {
      bench,
      name: "CPU of replicas and PostgreSQL per message",
      value: perMessage,
      unit: "ms",
      target: atMost(perMessage, 0.5, "<= 0.5 ms"),
    },
    {
      bench,
      name: "of it PostgreSQL",
      value: (end.databaseMs - begin.databaseMs) / (end.delivered - begin.delivered),
      unit: "ms",
    },
    ...timesFigures(bench, "call", latency),
    { bench, name: "accepted without acknowledgement in 2 s", value: load.acceptedLate, unit: "" },
    none(bench, "refused", load.refused),
    none(bench, "lost", missing.length),
    none(bench, "out of order", account.outOfOrder),
    none(bench, "duplicates", account.duplicates),
    ...(await jobQueue(server, quick)),
  ];
};

const storingHubRate = async (server: BenchServer, quick: boolean): Promise<number> => {
  const database = await server.database();
  const rate = await rateOf(await storingHubFloor(database.url), quick);
  await database.drop();
  return rate;
};

const spreadOf = (values: readonly number[]) => ({ min: Math.min(...values), max: Math.max(...values) });

/** The same from graphile-worker, a job queue on PostgreSQL: from a job's commit to its end, in a process of its own. */
const jobQueue = async (server: BenchServer, quick: boolean): Promise<Figure[]> => {
  const database = await server.database();
  const worker = await startWorker("jobQueue.ts");
  await worker.call("start", { databaseUrl: database.url, concurrency: JOBS_AT_ONCE });
  const seconds = quick ? 2 : 10;
  const cpu = () => database.cpuMs() + cpuMs(worker.pid);
  await worker.call("run", { senders: LANES, seconds: 1 });
  const before = cpu();
  const run = await worker.call<JobRun>("run", { senders: LANES, seconds });
  const used = cpu() - before;
  const one = await worker.call<JobRun>("run", { senders: 1, seconds });
  await worker.stop();
  await database.drop();
  const bench = "throughput";
  return [
    { bench, name: "graphile-worker, jobs added and done", value: run.done / run.seconds, unit: "/s" },
    { bench, name: "graphile-worker, CPU per job", value: used / run.done, unit: "ms" },
    { bench, name: "graphile-worker, add to done under load, p50", value: run.p50, unit: "ms" },
    { bench, name: "graphile-worker, add to done, one at a time, p50", value: one.p50, unit: "ms" },
    { bench, name: "graphile-worker, add to done, one at a time, p99", value: one.p99, unit: "ms" },
  ];
};

/** What is missing once no more arrives for a second. */
const settled = async (missing: () => Promise<string[]>): Promise<string[]> => {
  let before = Number.POSITIVE_INFINITY;
  for (;;) {
    const now = await missing();
    if (now.length === 0 || now.length === before) return now;
    before = now.length;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
};
