import { systemClock } from "@rootstock/service";
import { api, eventually, type OwnedPostgres, type TestDatabase } from "@rootstock/testkit";
import { type Breach, factsOf } from "./breach.ts";
import { check } from "./checker.ts";
import { checkEvents } from "./checks/events.ts";
import { CHECKOUT, type Code } from "./codeCopy.ts";
import { Dice } from "./dice.ts";
import { Fleet } from "./fleet.ts";
import { type Fact, History, type Round } from "./history.ts";
import { type Agent, bringUp, broadcaster, cycle, type LoadContext, maker, sender } from "./load.ts";
import { unleash } from "./nemesis.ts";
import { type RecordedRuntimeBroker, startRuntimeBroker } from "./runtimeBrokers.ts";
import { drawSchedule, type Planned } from "./schedule.ts";
import { Subscriber } from "./subscriber.ts";
import { createWorld, knownAgents, namedSessions, readRest, unsettled } from "./world.ts";

export interface RoundOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly replicas: number;
  readonly runtimeBrokers: number;
  readonly senders: number;
  /** In the place of the faults that the seed draws. */
  readonly schedule?: readonly Planned[];
  /** The versions of the code side by side; this checkout alone by default. The first one's schema is the database's. */
  readonly codes?: readonly Code[];
  /** The places that the load balancer gives to callers and to runtime brokers; all by default. */
  readonly calls?: readonly number[];
  readonly dials?: readonly number[];
  readonly load?: LoadShape;
  /** How long everything may take to come to rest once the faults have ended, in milliseconds. */
  readonly settleMs?: number;
  /** How long what nothing stands in the way of may take, in milliseconds. */
  readonly lateMs?: number;
  /** Tells how far it is. */
  readonly say?: (text: string) => void;
}

/** What the load is made of. */
export interface LoadShape {
  /** How often a call carries an `Idempotency-Key`. */
  readonly keyed: number;
  /** Whether one agent of each runtime broker is stopped and started all the time. */
  readonly cycles: boolean;
}

/** What a round came to. */
export interface RoundResult {
  readonly schedule: readonly Planned[];
  readonly breaches: readonly Breach[];
  readonly round: Round;
  readonly figures: Readonly<Record<string, number>>;
  readonly logs: ReadonlyMap<string, string>;
}

const LOAD: LoadShape = { keyed: 0.4, cycles: true };
const SETTLE_MS = 60_000;
/** How long a stage of the round may take before it counts as hung, in milliseconds. */
const STAGE_MS = 180_000;
/** Two agents of a runtime broker only take messages, one is stopped and started as well. */
const AGENTS_EACH = 3;
const SUBSCRIBERS = 2;

/** Runs load and faults on a fresh database, lets everything come to rest, and judges what was seen. */
export const runRound = async (postgres: OwnedPostgres, options: RoundOptions): Promise<RoundResult> => {
  const codes = options.codes ?? [CHECKOUT];
  const schedule = options.schedule ?? drawSchedule(options.seed, { ...options, versions: codes.length });
  const { load: shape = LOAD, settleMs = SETTLE_MS } = options;
  const dice = new Dice(options.seed ^ 0x5eed);
  const database = await createWorld(postgres, `chaos_${options.seed}_${process.pid}`, codes[0] ?? CHECKOUT);
  const fleet = await Fleet.start({ ...options, databaseUrl: database.url });
  const over = new AbortController();
  const runtimeBrokers: RecordedRuntimeBroker[] = [];
  const subscribers: Subscriber[] = [];
  try {
    const history = new History();
    // From the first call on: starting replicas is what a slow machine has the least time for.
    const watch = watchMachine(history, over.signal);
    const slugs = new Map<string, string>();
    const ids = new Map<string, string>();
    const textOf = (msg: string, agent: string): string => {
      const [text = ""] = msg.split(" ", 1);
      return text.includes(">") ? text : `${text}>${slugs.get(agent) ?? agent}`;
    };
    const around = { fleet, history, dice, agentOf: (slug: string) => ids.get(slug) ?? slug, textOf };
    for (let i = 0; i < options.runtimeBrokers; i += 1)
      runtimeBrokers.push(await startRuntimeBroker(around, `rb-${i}`, i % 2 === 0));
    const project = await api(fleet.forCall(dice), "POST", "/api/v1/projects", { name: "chaos" });
    const projectId = project.text("id");
    // Before there is any agent: so that nothing about one can have been missed.
    for (let i = 0; i < SUBSCRIBERS; i += 1) {
      const subscriber = new Subscriber(`subscriber ${i}`, ["agent.>"], around);
      await subscriber.start();
      subscribers.push(subscriber);
    }
    const agents = await createAgents({
      fleet,
      dice,
      history,
      database,
      projectId,
      runtimeBrokers,
      cycles: shape.cycles,
    });
    for (const { id, slug } of agents) {
      slugs.set(id, slug);
      ids.set(slug, id);
    }
    const ending = new AbortController();
    const context: LoadContext = { fleet, history, dice, projectId, agents, keyed: shape.keyed, ending: ending.signal };
    const calls = [
      ...Array.from({ length: options.senders }, (_, i) => sender(context, `s${i}`)),
      broadcaster(context, "b0"),
      ...agents.filter((a) => a.cycled).map((a) => cycle(context, a)),
      ...(shape.cycles
        ? [
            maker(
              context,
              "m",
              runtimeBrokers.map((rb) => rb.id),
            ),
          ]
        : []),
    ];
    const nemesis = unleash({ fleet, postgres, databaseUrl: database.url, runtimeBrokers, history }, schedule);
    await systemClock.sleep(options.seconds * 1_000);
    const hung: Breach[] = [];
    const stage = async (name: string, work: Promise<unknown>): Promise<void> => {
      options.say?.(name);
      const reached = new AbortController();
      const limit = systemClock.sleep(STAGE_MS, reached.signal).then(() => "hung");
      if ((await Promise.race([work, limit])) === "hung")
        hung.push({ rule: "not at rest", what: `${name}: not over after ${STAGE_MS / 1_000} s` });
      reached.abort();
    };
    await stage("the faults are healed", nemesis);
    ending.abort();
    await stage("the calls under way end", Promise.all(calls));
    await stage("every agent is started", Promise.all(agents.filter((a) => a.cycled).map((a) => bringUp(context, a))));
    const endedAt = history.now();
    const sockets = () => socketsOf(database, runtimeBrokers);
    await patiently(async () => (await unsettled(database)) === 0, settleMs);
    await patiently(async () => (await sockets()).every((s) => s.session === s.named), settleMs);
    const settledAfterMs = Math.round(history.now() - endedAt);
    const stored = await readRest(database, textOf);
    const rest = {
      ...stored,
      phases: stored.phases.map(({ agent, slug, phase }) => ({
        agent,
        phase,
        there: phaseThere(runtimeBrokers, slug),
      })),
      subscribers: subscribers.map((s) => s.name),
      sockets: await sockets(),
      held: await heldAgents(database, runtimeBrokers),
    };
    // Until all has been heard of; after a crash of the database that it is not told any more.
    await patiently(() => checkEvents({ facts: history.facts, rest }).length === 0, Math.min(settleMs, 10_000));
    await stage("the event streams end", Promise.all(subscribers.map((s) => s.stop())));
    over.abort();
    await watch;
    const round: Round = { facts: history.facts, rest };
    const remembers = new Map(runtimeBrokers.map((rb) => [rb.id, rb.remembers]));
    return {
      schedule,
      round,
      breaches: [...hung, ...check(round, (id) => remembers.get(id) === true, options.lateMs)],
      figures: { ...figuresOf(round), settledAfterMs },
      logs: fleet.logs(),
    };
  } finally {
    over.abort();
    // The replicas first: with them every call that hangs comes to its end.
    await fleet.stop();
    await Promise.all(subscribers.map((s) => s.stop()));
    await Promise.all(runtimeBrokers.map((rb) => rb.peer.stop()));
    await database.drop();
  }
};

/** A pause of this length that takes so much longer tells that the machine has no time for anybody, in milliseconds. */
const WATCH = { everyMs: 100, lateMs: 500 };

/** Writes down when the machine itself was too slow to be judged by the clock. */
const watchMachine = async (history: History, over: AbortSignal): Promise<void> => {
  while (!over.aborted) {
    const from = history.now();
    await systemClock.sleep(WATCH.everyMs, over);
    if (history.now() - from > WATCH.everyMs + WATCH.lateMs) history.addFault(from, { what: "slow machine" });
  }
};

/** Waits for a fact; when it does not come, the checker says what that means. */
const patiently = (check: () => boolean | Promise<boolean>, ms: number): Promise<unknown> =>
  eventually(check, ms).catch(() => {});

const socketsOf = async (database: TestDatabase, runtimeBrokers: readonly RecordedRuntimeBroker[]) => {
  const named = await namedSessions(database);
  return runtimeBrokers.map((rb) => ({
    runtimeBroker: rb.id,
    session: rb.peer.session?.sessionId ?? "",
    named: named.get(rb.id) ?? null,
  }));
};

const heldAgents = async (database: TestDatabase, runtimeBrokers: readonly RecordedRuntimeBroker[]) => {
  const known = await knownAgents(database);
  return runtimeBrokers.flatMap((rb) =>
    [...rb.peer.agents.phases.keys()].map((slug) => ({ runtimeBroker: rb.id, slug, known: known.has(slug) })),
  );
};

const phaseThere = (runtimeBrokers: readonly RecordedRuntimeBroker[], slug: string): string | undefined =>
  runtimeBrokers.map((rb) => rb.peer.agents.phases.get(slug)).find((phase) => phase !== undefined);

const createAgents = async (p: {
  readonly fleet: Fleet;
  readonly dice: Dice;
  readonly history: History;
  readonly database: TestDatabase;
  readonly projectId: string;
  readonly runtimeBrokers: readonly RecordedRuntimeBroker[];
  readonly cycles: boolean;
}): Promise<Agent[]> => {
  const { fleet, dice, database, projectId, runtimeBrokers } = p;
  const wanted = runtimeBrokers.flatMap((rb, i) =>
    Array.from({ length: AGENTS_EACH }, (_, j) => ({ rb, slug: `a${i}-${j}`, j })),
  );
  const agents = await Promise.all(
    wanted.map(async ({ rb, slug, j }): Promise<Agent> => {
      const call = `${slug}:create`;
      p.history.add({ kind: "operation asked", call, agent: slug, verb: "create" });
      const made = await api(fleet.forCall(dice), "POST", `/api/v1/projects/${projectId}/agents`, {
        name: slug,
        task: "wait",
        runtimeBrokerId: rb.id,
      });
      p.history.add({ kind: "operation answered", call, status: made.status, unfinished: false });
      if (made.status !== 201) throw new Error(`agent not created: ${made.status} ${made.body}`);
      return { id: made.text("agent.id"), slug, cycled: p.cycles && j === AGENTS_EACH - 1, takesLarge: rb.remembers };
    }),
  );
  await database.query("update agents set ready_at = now()");
  return agents;
};

/** Messages that went over the tunnel again. Those with no fault that explains it are breaches. */
const repeats = (facts: readonly Fact[]): number => {
  const received = factsOf(facts, "received");
  return received.length - new Set(received.map((f) => f.messageId)).size;
};

const figuresOf = ({ facts, rest }: Round): Readonly<Record<string, number>> => {
  const count = (kind: string) => facts.filter((f) => f.kind === kind).length;
  return {
    messages: rest.messages.length,
    received: count("received"),
    operations: count("operation asked"),
    executions: count("execution began"),
    sessions: count("session began"),
    events: count("event"),
    resyncs: count("resync"),
    faults: factsOf(facts, "fault").filter((f) => f.what !== "slow machine").length,
    repeated: repeats(facts),
    byKey: count("answered by key"),
    unanswered: facts.filter((f) => f.kind === "answered" && f.status === 0).length,
    refused: facts.filter((f) => f.kind === "answered" && f.status >= 400).length,
  };
};
