import { TEST_TOKEN } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { type BenchAgent, cpuOf, createAgents, joinMany, messageBody, messagePath, startReplica } from "../cluster.ts";
import { bareHubFloor } from "../floors/bare.ts";
import { HttpLane } from "../httpLane.ts";
import type { Account } from "../processes/runtimeBrokers.ts";
import { atLeast, atMost, type Figure } from "../report.ts";
import { Samples } from "../samples.ts";
import { startWorker } from "../worker.ts";

const REPLICAS = 3;
const RUNTIME_BROKERS = 50;
const AGENTS_EACH = 10;
const LANES = 256;

/** What a closed loop of senders did in its window. */
interface Load {
  readonly seconds: number;
  readonly accepted: number;
  readonly acceptedLate: number;
  readonly refused: number;
  readonly latency: Samples;
}

/** Runs `lanes` senders one call after the other, each; counts what was answered between warm-up and end. */
const closedLoop = async (
  lanes: readonly ((record: boolean) => Promise<{ status: number; ms: number }>)[],
  times: { readonly warmUpMs: number; readonly measureMs: number; readonly onMeasure?: () => Promise<void> },
): Promise<Load> => {
  const latency = new Samples();
  const counts = { accepted: 0, acceptedLate: 0, refused: 0 };
  let measuring = false;
  let over = false;
  const senders = lanes.map(async (lane) => {
    while (!over) {
      const { status, ms } = await lane(measuring);
      if (!measuring || over) continue;
      latency.add(ms);
      if (status === 200) counts.accepted += 1;
      else if (status === 202) counts.acceptedLate += 1;
      else counts.refused += 1;
    }
  });
  await new Promise((resolve) => setTimeout(resolve, times.warmUpMs));
  await times.onMeasure?.();
  measuring = true;
  const started = performance.now();
  await new Promise((resolve) => setTimeout(resolve, times.measureMs));
  over = true;
  const seconds = (performance.now() - started) / 1000;
  await times.onMeasure?.();
  await Promise.all(senders);
  return { seconds, ...counts, latency };
};

const bareHubRate = async (quick: boolean): Promise<number> => {
  const floor = await bareHubFloor();
  const body = messageBody("a line of text");
  const lanes = await Promise.all(
    Array.from({ length: LANES }, async () => {
      const lane = await HttpLane.open(floor.url, "none");
      return async () => ({ status: (await lane.request("POST", "/message", body)).status, ms: 0 });
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
  const before = await bareHubRate(quick);
  const database = await server.database();
  const replicas = await Promise.all(
    Array.from({ length: REPLICAS }, (_, i) =>
      startReplica({ databaseUrl: database.url, name: `replica-${i}`, ...(nodeOptions && { nodeOptions }) }),
    ),
  );
  const [first] = replicas;
  if (!first) throw new Error("no replica");
  const peers = await startWorker("runtimeBrokers.ts");
  const credentials = await joinMany(first, RUNTIME_BROKERS);
  const home = (i: number) => i % REPLICAS;
  await peers.call(
    "dial",
    credentials.map((c, i) => ({ ...c, urls: [replicas[home(i)]?.url] })),
  );
  const owners = new Map(credentials.map((c, i) => [c.brokerId, home(i)]));
  const agents = await createAgents(database, first, [...owners.keys()], AGENTS_EACH);

  const sent: string[] = [];
  const lanes = await Promise.all(
    Array.from({ length: LANES }, async (_, i) => {
      const entry = i % REPLICAS;
      const url = replicas[entry]?.url ?? "";
      const lane = await HttpLane.open(url, TEST_TOKEN);
      const elsewhere = agents.filter((a) => owners.get(a.runtimeBrokerId) !== entry);
      return sender(lane, i, elsewhere, sent);
    }),
  );
  say(`${LANES} senders, ${agents.length} agents`);
  const marks: { delivered: number; cpuMs: number; databaseMs: number }[] = [];
  const load = await closedLoop(lanes, {
    warmUpMs: quick ? 2_000 : 15_000,
    measureMs: quick ? 3_000 : 20_000,
    onMeasure: async () => {
      const [cpuMs, databaseMs] = [cpuOf(replicas, database), database.cpuMs()];
      marks.push({ delivered: (await peers.call<Account>("account")).delivered, cpuMs, databaseMs });
    },
  });
  const [begin, end] = marks;
  if (!begin || !end) throw new Error("not measured");
  say("waiting for what is under way");
  const missing = await settled(() => peers.call<string[]>("missing", sent));
  const account = await peers.call<Account>("account");
  await peers.stop();
  for (const replica of replicas) await replica.stop();
  await database.drop();
  const after = await bareHubRate(quick);

  const bareHub = { name: "bare hub", value: (before + after) / 2 };
  const delivered = (end.delivered - begin.delivered) / load.seconds;
  const perMessage = (end.cpuMs - begin.cpuMs) / (end.delivered - begin.delivered);
  const bench = "throughput";
  const none = (name: string, value: number): Figure => ({
    bench,
    name,
    value,
    unit: "",
    target: atMost(value, 0, "none"),
  });
  return [
    { bench, name: "floor: bare hub", value: bareHub.value, unit: "/s" },
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
    { bench, name: "call, p50", value: load.latency.p50, unit: "ms" },
    { bench, name: "call, p99", value: load.latency.p99, unit: "ms" },
    { bench, name: "accepted without acknowledgement in 2 s", value: load.acceptedLate, unit: "" },
    none("refused", load.refused),
    none("lost", missing.length),
    none("out of order", account.outOfOrder),
    none("duplicates", account.duplicates),
  ];
};

/** A sender that takes one agent after the other; each call's message is numbered per sender and agent. */
const sender = (lane: HttpLane, id: number, agents: readonly BenchAgent[], sent: string[]) => {
  const numbers = new Map<string, number>();
  // Senders start at different agents and take steps of different length, or they would march in line.
  let at = id * 37;
  return async () => {
    at += 1 + (id % 7);
    const agent = agents[at % agents.length];
    if (!agent) throw new Error("no agent");
    const n = (numbers.get(agent.id) ?? 0) + 1;
    numbers.set(agent.id, n);
    const text = `${id}:${agent.slug}:${n}`;
    const started = performance.now();
    const { status } = await lane.request("POST", messagePath(agent), messageBody(text));
    if (status === 200 || status === 202) sent.push(text);
    return { status, ms: performance.now() - started };
  };
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
