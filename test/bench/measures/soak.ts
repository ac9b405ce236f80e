import { api, TerminalClient } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { cpuOf } from "../cluster.ts";
import { type Fleet, startFleet } from "../fleet.ts";
import { closedLoop, openLoop } from "../load.ts";
import type { Account } from "../processes/runtimeBrokers.ts";
import { residentBytes } from "../processUsage.ts";
import { atMost, type Figure, none, timesFigures } from "../report.ts";
import { Samples } from "../samples.ts";
import { BUSY_TABLES, type TableSize, tableSizes } from "../tables.ts";

const LANES = 128;
const MEGABYTE = 1_048_576;
const EVERY_MS = 5_000;
/** Everything is kept for this share of the soak: most of it runs with as much deleted as added. */
const KEPT = 1 / 6;
/** Below this, the first pages of a table and the memory of a process that warms up are no growth. */
const SLACK_BYTES = 2 * MEGABYTE;
const FLAT = 1.1;
const P99_FACTOR = 1.2;

/** One look at everything. */
interface Look {
  readonly seconds: number;
  readonly memory: readonly number[];
  readonly tables: ReadonlyMap<string, TableSize>;
}

/**
 * Hours in a quarter of one: forwarded messages at half of what the machine can, with stops, heartbeats and a terminal
 * through the database beside them, and everything old deleted after minutes instead of months. Memory, tables and
 * latency of the last third are held against those before.
 */
export const soak: Bench = async ({ server, nodeOptions, quick, minutes, say }) => {
  const durationMs = (quick ? Math.min(minutes, 1) : minutes) * 60_000;
  const kept = `${Math.max(5, Math.round((durationMs * KEPT) / 1000))}s`;
  const fleet = await startFleet({
    server,
    nodeOptions,
    replicas: 3,
    runtimeBrokers: 50,
    agentsEach: 10,
    env: () => ({
      ROOTSTOCK_HISTORY_RETENTION: kept,
      ROOTSTOCK_FEED_RETENTION: kept,
      ROOTSTOCK_STREAM_RELAY: "postgres",
    }),
  });
  const { database, replicas, peers } = fleet;
  // Numbers end where the last accepted message of a sender and agent does.
  const last = new Map<string, number>();
  const onSent = (text: string) => {
    const at = text.lastIndexOf(":");
    last.set(text.slice(0, at), Number(text.slice(at + 1)));
  };
  await peers.call("keepNumbersOnly");
  const lanes = await fleet.senders(LANES, onSent);
  say("looking for the peak");
  const peak = await closedLoop(lanes, { warmUpMs: quick ? 3_000 : 20_000, measureMs: quick ? 3_000 : 15_000 });
  const perSecond = (0.5 * (peak.accepted + peak.acceptedLate)) / peak.seconds;

  const over = new AbortController();
  const beside = [stops(fleet, over.signal), heartbeats(fleet, over.signal), typing(fleet, over.signal)] as const;
  const looks: Look[] = [];
  const started = performance.now();
  const looking = every(EVERY_MS, over.signal, async () => {
    looks.push({
      seconds: (performance.now() - started) / 1000,
      memory: replicas.map((r) => residentBytes(r.pid)),
      tables: await tableSizes(database),
    });
    const look = looks.at(-1);
    if (look && looks.length % 12 === 0) say(describe(look));
  });
  say(`${Math.round(perSecond)}/s for ${durationMs / 60_000} minutes, everything old goes after ${kept}`);
  const thirds = [new Samples(), new Samples(), new Samples()];
  const [cpuBefore, deliveredBefore] = [cpuOf(replicas, database), (await peers.call<Account>("account")).delivered];
  const load = await openLoop(lanes, {
    perSecond,
    durationMs,
    onAnswer: (ms, atMs) => thirds[Math.min(2, Math.floor((3 * atMs) / durationMs))]?.add(ms),
  });
  const cpu = cpuOf(replicas, database) - cpuBefore;
  over.abort();
  await looking;
  const [stopped, refusedBeats, typed] = await Promise.all(beside);
  const lost = await missing(fleet, last);
  const account = await peers.call<Account>("account");
  await fleet.stop();

  const bench = "soak";
  const delivered = account.delivered - deliveredBefore;
  return [
    { bench, name: "peak, accepted", value: (peak.accepted + peak.acceptedLate) / peak.seconds, unit: "/s" },
    { bench, name: "messages delivered", value: delivered, unit: "" },
    { bench, name: "rate", value: delivered / load.seconds, unit: "/s" },
    { bench, name: "minutes", value: load.seconds / 60, unit: "" },
    {
      bench,
      name: "CPU of replicas and PostgreSQL per message, all else included",
      value: cpu / delivered,
      unit: "ms",
    },
    ...latencyFigures(thirds),
    ...replicas.flatMap((_, i) => memoryFigures(looks, i)),
    ...BUSY_TABLES.flatMap((name) => tableFigures(looks, name)),
    none(bench, "refused", load.refused),
    none(bench, "lost", lost),
    none(bench, "out of order", account.outOfOrder),
    none(bench, "duplicates", account.duplicates),
    none(bench, "stops refused", stopped.refused),
    none(bench, "heartbeats refused", refusedBeats),
    { bench, name: "stops through another replica", value: stopped.done, unit: "" },
    { bench, name: "keystrokes through the database", value: typed, unit: "" },
  ];
};

const describe = (look: Look): string => {
  const memory = look.memory.map((m) => Math.round(m / MEGABYTE)).join(" ");
  const tables = [...look.tables]
    .filter(([, s]) => s.table + s.indexes > 4 * MEGABYTE)
    .map(([name, s]) => `${name} ${Math.round(s.table / MEGABYTE)}+${Math.round(s.indexes / MEGABYTE)}`);
  return `${Math.round(look.seconds)} s: replicas ${memory} MB; ${tables.join(", ")} MB`;
};

/** Repeats `work` until the signal. */
const every = async (ms: number, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> => {
  const ended = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  while (!signal.aborted) {
    const [from] = [performance.now()];
    await work();
    let timer: NodeJS.Timeout | undefined;
    const pause = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.max(0, from + ms - performance.now()));
    });
    await Promise.race([pause, ended]);
    clearTimeout(timer);
  }
};

/** Agents of their own are stopped through another replica, and run again. */
const stops = async (fleet: Fleet, signal: AbortSignal) => {
  const [entry] = fleet.replicas;
  const [like] = fleet.agentsElsewhere(0);
  if (!entry || !like) throw new Error("no agent");
  const [agent] = await fleet.database.query<{ id: string }>(
    `insert into agents (id, project_id, slug, name, runtime_broker_id, phase, running_since, ready_at)
     select gen_random_uuid(), project_id, 'stopped', 'stopped', runtime_broker_id, 'running', now(), now()
       from agents where id = $1 returning id`,
    [like.id],
  );
  const count = { done: 0, refused: 0 };
  await every(200, signal, async () => {
    const { status } = await api(entry, "POST", `/api/v1/agents/${agent?.id}/stop`);
    if (status < 300) count.done += 1;
    else count.refused += 1;
    await fleet.database.query("update agents set phase = 'running' where id = $1", [agent?.id]);
  });
  return count;
};

/** Each runtime broker's heartbeat, six times as often as in life. Resolves with how many were refused. */
const heartbeats = async (fleet: Fleet, signal: AbortSignal): Promise<number> => {
  let refused = 0;
  await every(5_000, signal, async () => {
    refused += await fleet.peers.call<number>("heartbeats", fleet.dialled);
  });
  return refused;
};

/** Somebody types into a terminal of another replica, which goes through the database. Resolves with the keys shown. */
const typing = async (fleet: Fleet, signal: AbortSignal): Promise<number> => {
  const [entry] = fleet.replicas;
  const [agent] = fleet.agentsElsewhere(0);
  if (!entry || !agent) throw new Error("no agent");
  const terminal = await TerminalClient.attach(entry, agent.id, { discard: true });
  let keys = 0;
  await every(50, signal, async () => {
    const shown = terminal.onOutput.next();
    terminal.type("k");
    await Promise.race([shown, terminal.closed]);
    keys += 1;
  });
  terminal.cut();
  return keys;
};

/** How many accepted messages never arrived, once no more do. */
const missing = async (fleet: Fleet, accepted: ReadonlyMap<string, number>): Promise<number> => {
  let before = Number.POSITIVE_INFINITY;
  for (;;) {
    const { last, gaps } = await fleet.peers.call<{ last: Map<string, number>; gaps: number }>("numbers");
    let lost = gaps;
    for (const [pair, n] of accepted) lost += Math.max(0, n - (last.get(pair) ?? 0));
    if (lost === 0 || lost === before) return lost;
    before = lost;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
};

const latencyFigures = (thirds: readonly Samples[]): Figure[] => {
  const [first = new Samples(), , last = new Samples()] = thirds;
  const [p50, p99] = timesFigures("soak", "call in the last third", last);
  if (!p50 || !p99) return [];
  const against = (value: number) => ({ name: "first third", value });
  return [
    { ...p50, against: against(first.p50) },
    { ...p99, against: against(first.p99), target: atMost(p99.value, P99_FACTOR * first.p99, `<= ${P99_FACTOR} x`) },
  ];
};

/** The largest of the middle third and of the last. */
const peaks = (looks: readonly Look[], of: (look: Look) => number): readonly [number, number] => {
  const third = Math.floor(looks.length / 3);
  const largest = (part: readonly Look[]) => Math.max(0, ...part.map(of));
  return [largest(looks.slice(third, 2 * third)), largest(looks.slice(2 * third))];
};

const flat = (name: string, looks: readonly Look[], of: (look: Look) => number): Figure => {
  const [before, after] = peaks(looks, of);
  return {
    bench: "soak",
    name: `${name}, largest in the last third`,
    value: after / MEGABYTE,
    unit: "MB",
    against: { name: "middle third", value: before / MEGABYTE },
    target: atMost(after, Math.max(FLAT * before, before + SLACK_BYTES), `<= ${FLAT} x`),
  };
};

/** Megabytes that memory grows in an hour, by least squares over the last two thirds. */
const slope = (looks: readonly Look[], of: (look: Look) => number): number => {
  const part = looks.slice(Math.floor(looks.length / 3));
  const mean = (f: (look: Look) => number) => part.reduce((sum, l) => sum + f(l), 0) / part.length;
  const [t, m] = [mean((l) => l.seconds), mean(of)];
  const above = part.reduce((sum, l) => sum + (l.seconds - t) * (of(l) - m), 0);
  const below = part.reduce((sum, l) => sum + (l.seconds - t) ** 2, 0);
  return ((above / below) * 3_600) / MEGABYTE;
};

const memoryFigures = (looks: readonly Look[], replica: number): Figure[] => {
  const of = (look: Look) => look.memory[replica] ?? 0;
  return [
    flat(`memory of replica ${replica}`, looks, of),
    {
      bench: "soak",
      name: `memory of replica ${replica}, slope over the last two thirds`,
      value: slope(looks, of),
      unit: "MB/h",
    },
  ];
};

const tableFigures = (looks: readonly Look[], name: string): Figure[] => [
  flat(`table ${name}`, looks, (look) => look.tables.get(name)?.table ?? 0),
  flat(`indexes of ${name}`, looks, (look) => look.tables.get(name)?.indexes ?? 0),
];
