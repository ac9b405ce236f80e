import { TEST_TOKEN } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import {
  type BenchAgent,
  cpuOf,
  createAgents,
  joinMany,
  messageBody,
  messagePath,
  type ReplicaProcess,
  startReplica,
} from "../cluster.ts";
import { HttpLane } from "../httpLane.ts";
import type { Account } from "../processes/runtimeBrokers.ts";
import { atMost, type Figure } from "../report.ts";
import { Samples } from "../samples.ts";
import { startWorker } from "../worker.ts";

const CALLS_PER_SECOND = 100;
/** Runtime brokers that stay where they are, for calls that the storm must not slow down. */
const STAYING = 20;
const LANES = 40;
/** Clients give up at 30 s. */
const CALLS_AFTER_MS = 3_000;

interface Call {
  readonly kind: "staying" | "moving" | "read";
  readonly method: string;
  readonly path: string;
  readonly text?: string;
}

interface Traffic {
  readonly latencies: Readonly<Record<Call["kind"], Samples>>;
  readonly failures: string[];
  readonly accepted: string[];
  stop(): Promise<void>;
}

/** A call every so many milliseconds, whatever became of the ones before: reads, and messages to both kinds of agents. */
const startTraffic = async (
  survivors: readonly ReplicaProcess[],
  staying: readonly BenchAgent[],
  moving: readonly BenchAgent[],
): Promise<Traffic> => {
  const lanes = await Promise.all(
    Array.from({ length: LANES }, (_, i) => HttpLane.open(survivors[i % survivors.length]?.url ?? "", TEST_TOKEN)),
  );
  const free = [...lanes];
  const queued: Call[] = [];
  const latencies = { staying: new Samples(), moving: new Samples(), read: new Samples() };
  const [failures, accepted]: string[][] = [[], []];
  let under = 0;
  const due = new Map<Call, number>();
  const pump = (): void => {
    for (let lane = free.shift(); lane; lane = free.shift()) {
      const call = queued.shift();
      if (!call) {
        free.push(lane);
        return;
      }
      void make(lane, call);
    }
  };
  const make = async (lane: HttpLane, call: Call): Promise<void> => {
    under += 1;
    try {
      const reply = await lane.request(call.method, call.path, call.text && messageBody(call.text));
      latencies[call.kind].add(performance.now() - (due.get(call) ?? 0));
      if (reply.status >= 300) failures?.push(`${call.kind}: ${reply.status} ${reply.body.slice(0, 200)}`);
      else if (call.text) accepted?.push(call.text);
    } catch (err) {
      failures?.push(`${call.kind}: ${err}`);
    }
    due.delete(call);
    under -= 1;
    free.push(lane);
    pump();
  };
  let n = 0;
  const next = (): Call => {
    n += 1;
    const kind = (["read", "staying", "moving", "staying"] as const)[n % 4] ?? "read";
    const among = kind === "staying" ? staying : moving;
    const agent = among[n % among.length];
    if (!agent) throw new Error("no agent");
    if (kind === "read") return { kind, method: "GET", path: `/api/v1/agents/${agent.id}` };
    // A sender of its own: calls that are under way together may arrive in either order.
    return { kind, method: "POST", path: messagePath(agent), text: `storm-${n}:${agent.slug}:1` };
  };
  const started = performance.now();
  const timer = setInterval(() => {
    for (; n < ((performance.now() - started) * CALLS_PER_SECOND) / 1000; pump()) {
      const call = next();
      due.set(call, performance.now());
      queued.push(call);
    }
  }, 5);
  return {
    latencies,
    failures: failures ?? [],
    accepted: accepted ?? [],
    stop: async () => {
      clearInterval(timer);
      while (under > 0 || queued.length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
      for (const lane of lanes) lane.close();
    },
  };
};

/**
 * The owner of a thousand runtime brokers is killed (-9) while calls go on through the two survivors. All of them redial
 * at once. How long until every one is online again, and what the calls notice of it.
 */
export const storm: Bench = async ({ server, quick, nodeOptions, say }) => {
  const count = quick ? 200 : 1_000;
  const rounds = quick ? 1 : 3;
  const bench = "storm";
  const online = new Samples();
  const latencies = { staying: new Samples(), moving: new Samples(), read: new Samples() };
  let [failures, calls, lost, cpu] = [0, 0, 0, 0];
  let duplicates = 0;
  for (let round = 1; round <= rounds; round += 1) {
    const database = await server.database();
    const start = (name: string) =>
      startReplica({ databaseUrl: database.url, name, ...(nodeOptions !== undefined && { nodeOptions }) });
    const owner = await start("owner");
    const survivors = [await start("second"), await start("third")] as const;
    say(`round ${round}: ${count} runtime brokers join`);
    const credentials = await joinMany(owner, count + STAYING);
    const agents = await createAgents(
      database,
      owner,
      credentials.map((c) => c.brokerId),
      1,
    );
    const isStaying = new Set(credentials.slice(0, STAYING).map((c) => c.brokerId));
    const worker = await startWorker("runtimeBrokers.ts");
    const urls = survivors.map((s) => s.url);
    await worker.call(
      "dial",
      credentials.map((c, i) => {
        const others = i % 2 ? urls : urls.toReversed();
        return { ...c, urls: isStaying.has(c.brokerId) ? others : [owner.url, ...others] };
      }),
    );
    const traffic = await startTraffic(
      survivors,
      agents.filter((a) => isStaying.has(a.runtimeBrokerId)),
      agents.filter((a) => !isStaying.has(a.runtimeBrokerId)),
    );
    await new Promise((resolve) => setTimeout(resolve, CALLS_AFTER_MS));
    const cpuBefore = cpuOf(survivors, database);
    const returned = worker.call<bigint>("returned", count + STAYING);
    const killedAt = process.hrtime.bigint();
    await owner.kill();
    online.add(Number((await returned) - killedAt) / 1e6);
    cpu += (cpuOf(survivors, database) - cpuBefore) / rounds;
    await new Promise((resolve) => setTimeout(resolve, CALLS_AFTER_MS));
    await traffic.stop();
    const [{ owned } = { owned: 0 }] = await database.query<{ owned: number }>(
      "select count(*)::int as owned from runtime_brokers where status = 'online' and connected_hub_id is not null",
    );
    if (owned !== count + STAYING) throw new Error(`${owned} of ${count + STAYING} are online in the database`);
    for (const kind of ["staying", "moving", "read"] as const) {
      calls += traffic.latencies[kind].count;
      latencies[kind].addAll(traffic.latencies[kind].all());
    }
    failures += traffic.failures.length;
    for (const failure of new Set(traffic.failures)) say(failure);
    const deadline = performance.now() + 30_000;
    let missing = await worker.call<readonly string[]>("missing", traffic.accepted);
    while (missing.length > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      missing = await worker.call<readonly string[]>("missing", traffic.accepted);
    }
    lost += missing.length;
    duplicates += (await worker.call<Account>("account")).duplicates;
    say(`round ${round}: all online after ${Math.round(online.max)} ms at most`);
    await worker.stop();
    for (const survivor of survivors) await survivor.stop();
    await database.drop();
  }
  const figure = (name: string, value: number, unit: string, target?: Figure["target"]): Figure => ({
    bench,
    name,
    value,
    unit,
    ...(target && { target }),
  });
  return [
    figure(
      `kill -9 of the owner of ${count} until all are online, worst of ${rounds}`,
      online.max / 1000,
      "s",
      atMost(online.max, 10_000, "<= 10 s"),
    ),
    figure("calls meanwhile", calls, ""),
    figure("calls that failed", failures, "", atMost(failures, 0, "0")),
    figure("reads, p99", latencies.read.p99, "ms"),
    figure("messages to agents that stay, p50", latencies.staying.p50, "ms"),
    figure("messages to agents that stay, p99", latencies.staying.p99, "ms"),
    figure("messages to agents that move, p99", latencies.moving.p99, "ms"),
    figure("accepted messages lost", lost, "", atMost(lost, 0, "0")),
    figure("delivered twice", duplicates, ""),
    figure("CPU of survivors and PostgreSQL until all are online", cpu, "ms"),
  ];
};
