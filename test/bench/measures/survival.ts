import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { api } from "@rootstock/testkit";
import { PostgresProxy } from "../../chaos/postgresProxy.ts";
import type { Bench } from "../bench.ts";
import {
  type BenchAgent,
  createAgents,
  joinMany,
  messageBody,
  messagePath,
  type ReplicaProcess,
  startReplica,
} from "../cluster.ts";
import type { Account, Dialled } from "../processes/runtimeBrokers.ts";
import { type Figure, none } from "../report.ts";
import { Samples } from "../samples.ts";
import { startWorker, type Worker } from "../worker.ts";

const REPLICAS = 3;
const RUNTIME_BROKERS = 9;
const AGENTS_EACH = 3;
/** Each agent gets a message so often. */
const EVERY_MS = 250;
/** A client waits so long for an answer before it tries another replica, and so long in all. */
const CALL_MS = 30_000;

/** A message of somebody who does not give up: when the call began, and when it was answered at last. */
interface Told {
  readonly text: string;
  readonly fromNs: bigint;
  readonly answeredNs: bigint;
  readonly tries: number;
  readonly accepted: boolean;
}

/** Three replicas, each behind a proxy of the database, and machines that know them all. */
interface Ground {
  readonly replicas: ReplicaProcess[];
  readonly proxies: readonly PostgresProxy[];
  readonly peers: Worker;
  /** Starts the replica with this number where it was. */
  restart(replica: number): Promise<void>;
  readonly restartDatabase: (() => Promise<void>) | undefined;
}

interface Failure {
  readonly name: string;
  readonly happens: (ground: Ground) => Promise<void>;
}

const at = (ground: Ground, replica: number): ReplicaProcess => {
  const process = ground.replicas[replica];
  if (!process) throw new Error(`no replica ${replica}`);
  return process;
};

/** In order; what is said of each in the README goes by its name. */
const FAILURES: readonly Failure[] = [
  {
    name: "a replica is killed (-9)",
    happens: async (g) => {
      await at(g, 0).kill();
      await pause(2_000);
      await g.restart(0);
    },
  },
  {
    name: "a replica is stopped (SIGTERM) and started again",
    happens: async (g) => {
      await at(g, 1).stop();
      await g.restart(1);
    },
  },
  {
    name: "a replica hangs for 15 s",
    happens: async (g) => {
      at(g, 2).signal("SIGSTOP");
      await pause(15_000);
      at(g, 2).signal("SIGCONT");
    },
  },
  {
    name: "all replicas are killed at once (-9)",
    happens: async (g) => {
      await Promise.all(g.replicas.map((r) => r.kill()));
      await Promise.all(g.replicas.map((_, i) => g.restart(i)));
    },
  },
  {
    name: "every runtime broker loses its socket",
    happens: (g) => g.peers.call("drop"),
  },
  {
    name: "no signal between replicas arrives for 10 s",
    happens: async (g) => {
      for (const proxy of g.proxies) proxy.deaf = true;
      await pause(10_000);
      for (const proxy of g.proxies) proxy.deaf = false;
    },
  },
  {
    name: "the connections for signals are cut",
    happens: async (g) => {
      for (const proxy of g.proxies) proxy.cut("listen");
    },
  },
  {
    name: "the connections for locks are cut",
    happens: async (g) => {
      for (const proxy of g.proxies) proxy.cut("coordination");
    },
  },
  {
    name: "all other connections to the database are cut",
    happens: async (g) => {
      for (const proxy of g.proxies) proxy.cut("pool");
    },
  },
  {
    name: "the database hangs for 5 s",
    happens: async (g) => {
      for (const proxy of g.proxies) proxy.hung = true;
      await pause(5_000);
      for (const proxy of g.proxies) proxy.hung = false;
    },
  },
  {
    name: "the database is restarted",
    happens: async (g) => g.restartDatabase?.(),
  },
];

/**
 * What users see of failures: a message to every agent four times a second, each by somebody who repeats a call without
 * an answer at another replica under the same idempotency key, while one thing after the other fails.
 */
export const survival: Bench = async ({ server, quick, say }) => {
  const database = await server.database();
  const proxies = await Promise.all(Array.from({ length: REPLICAS }, () => PostgresProxy.start(database.url)));
  const start = (i: number, port = 0) =>
    startReplica({
      databaseUrl: proxies[i]?.url ?? "",
      name: `replica-${i}`,
      port,
      env: { ROOTSTOCK_DRAIN_SECONDS: "1" },
    });
  const replicas = await Promise.all(proxies.map((_, i) => start(i)));
  const [first] = replicas;
  if (!first) throw new Error("no replica");
  const peers = await startWorker("runtimeBrokers.ts");
  const credentials = await joinMany(first, RUNTIME_BROKERS);
  const urls = replicas.map((r) => r.url);
  const turned = (by: number) => [...urls.slice(by % REPLICAS), ...urls.slice(0, by % REPLICAS)];
  await peers.call("keepArrivals");
  await peers.call(
    "dial",
    credentials.map((c, i): Dialled => ({ ...c, urls: turned(i) })),
  );
  const agents = await createAgents(
    database,
    first,
    credentials.map((c) => c.brokerId),
    AGENTS_EACH,
  );
  const ground: Ground = {
    replicas,
    proxies,
    peers,
    restart: async (i) => {
      replicas[i] = await start(i, Number(new URL(urls[i] ?? "").port));
    },
    restartDatabase: server.restart,
  };

  const told: Told[] = [];
  const over = new AbortController();
  const senders = agents.map((agent, i) => tell(agent, i, turned(i), over.signal, (t) => told.push(t)));
  const figures: Figure[] = [];
  await pause(quick ? 2_000 : 5_000);
  for (const failure of quick ? FAILURES.slice(0, 2) : FAILURES) {
    say(failure.name);
    const [fromNs, before] = [process.hrtime.bigint(), await peers.call<Account>("account")];
    await failure.happens(ground);
    await pause(8_000);
    const untilNs = process.hrtime.bigint();
    await pause(2_000);
    const meanwhile = () => told.filter((t) => t.answeredNs >= fromNs && t.fromNs <= untilNs);
    const arrivals = await settled(peers, meanwhile);
    figures.push(...seen(failure.name, meanwhile(), arrivals, before, await peers.call<Account>("account")));
  }
  over.abort();
  await Promise.all(senders);
  await peers.stop();
  for (const replica of replicas) await replica.stop();
  for (const proxy of proxies) await proxy.stop();
  await database.drop();
  return figures;
};

/** Sends an agent one numbered message after the other. */
const tell = async (
  agent: BenchAgent,
  id: number,
  urls: readonly string[],
  signal: AbortSignal,
  note: (told: Told) => void,
): Promise<void> => {
  for (let n = 1; !signal.aborted; n += 1) {
    const text = `${id}:${agent.slug}:${n}`;
    const fromNs = process.hrtime.bigint();
    const { tries, accepted } = await insist(agent, text, urls);
    const answeredNs = process.hrtime.bigint();
    note({ text, fromNs, answeredNs, tries, accepted });
    const left = EVERY_MS - Number(answeredNs - fromNs) / 1e6;
    if (left > 0) await pause(left);
  }
};

/** Calls one replica after the other, as a load balancer and a client do, until one answers. */
const insist = async (agent: BenchAgent, text: string, urls: readonly string[]) => {
  const headers = { "idempotency-key": randomUUID() };
  const until = performance.now() + CALL_MS;
  for (let tries = 1; ; tries += 1) {
    const replica = { url: urls[(tries - 1) % urls.length] ?? "" };
    const status = await api(replica, "POST", messagePath(agent), undefined, {
      raw: messageBody(text),
      headers,
      signal: AbortSignal.timeout(Math.ceil(Math.max(1, Math.min(10_000, until - performance.now())))),
    }).then(
      (reply) => reply.status,
      () => 0,
    );
    if (status === 200 || status === 202) return { tries, accepted: true };
    if (performance.now() >= until) return { tries, accepted: false };
    await pause(50);
  }
};

type Arrivals = ReadonlyMap<string, bigint>;

/** When the messages arrived, once all have or no more do for ten seconds. */
const settled = async (peers: Worker, meanwhile: () => readonly Told[]): Promise<Arrivals> => {
  for (let [before, since] = [-1, performance.now()]; ; ) {
    const arrivals = await peers.call<Arrivals>("arrivals");
    const missing = meanwhile().filter((t) => t.accepted && !arrivals.has(t.text)).length;
    if (missing === 0) return arrivals;
    if (missing !== before) [before, since] = [missing, performance.now()];
    else if (performance.now() - since > 10_000) return arrivals;
    await pause(250);
  }
};

const seen = (name: string, calls: readonly Told[], arrivals: Arrivals, before: Account, after: Account): Figure[] => {
  const bench = "survival";
  const [answers, ways] = [new Samples(), new Samples()];
  for (const call of calls) {
    answers.add(Number(call.answeredNs - call.fromNs) / 1e6);
    const arrived = arrivals.get(call.text);
    if (arrived !== undefined) ways.add(Number(arrived - call.fromNs) / 1e6);
  }
  const of = (what: string) => `${name}: ${what}`;
  const count = (which: (told: Told) => boolean) => calls.filter(which).length;
  return [
    { bench, name: of("calls"), value: calls.length, unit: "" },
    { bench, name: of("calls repeated"), value: count((t) => t.tries > 1), unit: "" },
    { bench, name: of("slowest call"), value: answers.percentile(1), unit: "ms", distribution: answers.distribution() },
    {
      bench,
      name: of("longest from call to agent"),
      value: ways.percentile(1),
      unit: "ms",
      distribution: ways.distribution(),
    },
    { bench, name: of("sent again under the same id"), value: after.duplicates - before.duplicates, unit: "" },
    none(
      bench,
      of("calls failed"),
      count((t) => !t.accepted),
    ),
    none(
      bench,
      of("lost"),
      count((t) => t.accepted && !arrivals.has(t.text)),
    ),
    none(bench, of("out of order"), after.outOfOrder - before.outOfOrder),
  ];
};
