import { randomUUID } from "node:crypto";
import { api, TEST_TOKEN } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { type BenchDatabase, cpuOf, type ReplicaProcess, startReplica } from "../cluster.ts";
import type { WriterSetup, Written, WrittenTo } from "../processes/changeWriter.ts";
import type { Heard, Listened } from "../processes/listeners.ts";
import { atLeast, atMost, type Figure } from "../report.ts";
import { startWorker } from "../worker.ts";

const REPLICAS = 3;
const SUBSCRIBERS = 100;
const PROJECTS = 32;
const AGENTS_EACH = 32;
const WRITERS = 8;
/** So many changes may be under way between the writers and the slowest of those who hear everything. */
const WINDOW = 4_000;
/** How often the writers are told how far the subscribers are, in milliseconds. */
const FEEDBACK_MS = 10;

const EVERYTHING = "project.>";
const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Projects with running agents, and people whom the agents write to. */
const populate = async (database: BenchDatabase, replica: ReplicaProcess): Promise<WrittenTo[]> => {
  const targets: WrittenTo[] = [];
  for (let i = 0; i < PROJECTS; i += 1) {
    const project = await api(replica, "POST", "/api/v1/projects", { name: `feed ${i}` });
    const projectId = project.text("id");
    const agents = await database.query<{ id: string }>(
      `insert into agents (id, project_id, slug, name, phase, activity, running_since, ready_at, started_at, template)
       select gen_random_uuid(), $1, 'a-' || n, 'a-' || n, 'running', 'working', now(), now(), now(), 'default'
         from generate_series(1, $2::int) n returning id`,
      [projectId, AGENTS_EACH],
    );
    targets.push({ projectId, agentIds: agents.map((a) => a.id), personIds: agents.map(() => randomUUID()) });
  }
  return targets;
};

/**
 * What the change feed carries: writers commit status reports and messages as fast as three replicas tell a hundred
 * subscribers of them. On each replica one hears everything, the others one project each.
 */
export const feed: Bench = async ({ server, nodeOptions, quick, say }) => {
  const database = await server.database();
  const replicas = await Promise.all(
    Array.from({ length: REPLICAS }, (_, i) =>
      startReplica({ databaseUrl: database.url, name: `feed-${i}`, ...(nodeOptions && { nodeOptions }) }),
    ),
  );
  const [first] = replicas;
  if (!first) throw new Error("no replica");
  const targets = await populate(database, first);
  const listened = Array.from({ length: SUBSCRIBERS }, (_, i): Listened => {
    const hearsAll = i < REPLICAS;
    const pattern = hearsAll ? EVERYTHING : `project.${targets[Math.floor(i / REPLICAS) % PROJECTS]?.projectId}.>`;
    return { url: replicas[i % REPLICAS]?.url ?? "", token: TEST_TOKEN, pattern, hearsAll };
  });
  const listeners = await startWorker("listeners.ts");
  const writer = await startWorker("changeWriter.ts");
  await listeners.call("listen", listened);
  await writer.call("setUp", { databaseUrl: database.url, targets, connections: WRITERS } satisfies WriterSetup);

  let over = false;
  const feedback = (async () => {
    while (!over) {
      await writer.call("allow", (await listeners.call<number>("progress")) + WINDOW);
      await rest(FEEDBACK_MS);
    }
  })();
  say("writing");
  await writer.call("start");
  await rest(quick ? 1_000 : 8_000);
  const look = async () => ({
    at: performance.now(),
    written: await writer.call<Written>("written"),
    heard: await listeners.call<Heard>("heard"),
    progress: await listeners.call<number>("progress"),
    databaseMs: database.cpuMs(),
    cpuMs: cpuOf(replicas, database),
  });
  await listeners.call("forgetLag");
  const begin = await look();
  await rest(quick ? 2_000 : 20_000);
  const end = await look();
  await writer.call("stop");
  say("waiting for what is under way");
  const last = await writer.call<Map<string, number>>("last");
  const idsOf = (t: WrittenTo) => [...t.agentIds, ...t.personIds];
  const heardBy = new Map([
    [EVERYTHING, targets.flatMap(idsOf)],
    ...targets.map((t) => [`project.${t.projectId}.>`, idsOf(t)] as const),
  ]);
  const missing = () => listeners.call<number>("missing", { last, heardBy });
  let lost = await missing();
  for (let before = Number.POSITIVE_INFINITY; lost > 0 && lost < before; lost = await missing()) {
    before = lost;
    await rest(1_000);
  }
  over = true;
  await feedback;
  const total = await listeners.call<Heard>("heard");
  await listeners.call("close");
  await listeners.stop();
  await writer.stop();
  for (const replica of replicas) await replica.stop();
  await database.drop();

  const seconds = (end.at - begin.at) / 1000;
  const changesOf = (w: Written) => w.statuses + w.toPeople + w.toAgents;
  const changes = changesOf(end.written) - changesOf(begin.written);
  const delivered = (end.progress - begin.progress) / seconds;
  const bench = "feed";
  const none = (name: string, value: number): Figure => ({
    bench,
    name,
    value,
    unit: "",
    target: atMost(value, 0, "none"),
  });
  const cpu = (ms: number) => (ms * 1000) / changes;
  return [
    { bench, name: "changes committed", value: changes / seconds, unit: "/s" },
    {
      bench,
      name: `of them told to everybody, ${REPLICAS} replicas, ${SUBSCRIBERS} subscribers`,
      value: delivered,
      unit: "/s",
      target: atLeast(changes / seconds, 8_000, ">= 8,000/s committed and told"),
    },
    { bench, name: "frames sent", value: (end.heard.events - begin.heard.events) / seconds, unit: "/s" },
    { bench, name: "bytes sent", value: (end.heard.bytes - begin.heard.bytes) / seconds / 1e6, unit: "MB/s" },
    { bench, name: "from the statement to the subscriber, p50", value: end.heard.lagP50, unit: "ms" },
    { bench, name: "from the statement to the subscriber, p99", value: end.heard.lagP99, unit: "ms" },
    { bench, name: "CPU of PostgreSQL per change", value: cpu(end.databaseMs - begin.databaseMs), unit: "µs" },
    {
      bench,
      name: "CPU of the replicas per change",
      value: cpu(end.cpuMs - begin.cpuMs - (end.databaseMs - begin.databaseMs)),
      unit: "µs",
    },
    none("lost", lost),
    none("out of order or twice", total.outOfOrder),
    none("resyncs", total.resyncs),
    { bench, name: "streams cut and resumed", value: total.cuts, unit: "" },
  ];
};
