import { silentLog, systemClock } from "@rootstock/service";
import { Database, Signaller } from "@rootstock/store";
import pg from "pg";
import { serveWorker } from "../worker.ts";

/**
 * Writes changes as replicas do under load: several connections, each commit one set-based statement (the reports of a
 * heartbeat, a batch of messages), and the signal after the commit. Every change carries its number, which grows by one
 * per agent or person, and the time at which its statement was sent.
 */

export interface WrittenTo {
  readonly agentIds: readonly string[];
  /** A message from an agent is to the person of the same index. */
  readonly personIds: readonly string[];
  readonly projectId: string;
}

export interface WriterSetup {
  readonly databaseUrl: string;
  readonly targets: readonly WrittenTo[];
  readonly connections: number;
}

/** How many of each kind there were, since the set-up. */
export interface Written {
  readonly statuses: number;
  readonly toPeople: number;
  readonly toAgents: number;
}

/** A commit in which each of these agents reports something. */
const STATUSES = 16;
/** A commit with so many messages, to people or to agents. */
const MESSAGES = 8;
const TEXT = "a line of text, as long as people and agents write to each other now and then. ".repeat(3);

const clients: pg.Client[] = [];
const numbers = new Map<string, number>();
const written = { statuses: 0, toPeople: 0, toAgents: 0 };
let targets: readonly WrittenTo[] = [];
let signaller: Signaller | undefined;
/** Changes begun, and how many may be begun. */
let begun = 0;
let allowed = 0;
let waiting: (() => void)[] = [];
let running: Promise<void>[] = [];
let over = false;

const next = (id: string): number => {
  const n = (numbers.get(id) ?? 0) + 1;
  numbers.set(id, n);
  return n;
};
const stamp = () => String(process.hrtime.bigint() / 1000n);

const UPDATE = {
  name: "statuses",
  text: `update agents a set current_turns = v.n, message = $3, last_seen = now(), updated = now(),
      activity = case v.n % 2 when 0 then 'working' else 'thinking' end
    from (select id, n from unnest($1::uuid[], $2::int[]) as u(id, n) order by id) v where a.id = v.id`,
};
const INSERT = {
  name: "messages",
  text: `insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg, state, error)
    select gen_random_uuid(), $1, u.agent, 'agent:a', u.agent, 'user:p', u.person, u.msg, u.state, null
      from unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[]) as u(agent, person, msg, state)`,
};

const wakeAll = (): void => {
  const woken = waiting;
  waiting = [];
  for (const wake of woken) wake();
};

const write = async (client: pg.Client, own: readonly WrittenTo[], turn: number): Promise<void> => {
  const target = own[turn % own.length];
  if (!target) throw new Error("nothing to write to");
  const from = Math.floor(turn / own.length);
  const pick = (count: number): number[] =>
    Array.from(
      { length: Math.min(count, target.agentIds.length) },
      (_, i) => (from * count + i) % target.agentIds.length,
    );
  // Of sixteen commits two are messages to people, and one is messages to agents, which nobody listens to.
  const kind = turn % 16;
  if (kind < 3) {
    const chosen = pick(MESSAGES);
    const toAgent = kind === 2;
    const at = stamp();
    const agents = chosen.map((i) => target.agentIds[i]);
    const people = chosen.map((i) => (toAgent ? target.agentIds[i] : target.personIds[i]));
    if (!toAgent) begun += chosen.length;
    const texts = people.map((id) => (toAgent ? TEXT : `${next(id ?? "")} ${at} ${TEXT}`));
    const states = chosen.map(() => (toAgent ? "delivered" : null));
    await client.query({ ...INSERT, values: [target.projectId, agents, people, texts, states] });
    if (toAgent) written.toAgents += chosen.length;
    else written.toPeople += chosen.length;
    return;
  }
  const ids = pick(STATUSES).map((i) => target.agentIds[i] ?? "");
  begun += ids.length;
  await client.query({ ...UPDATE, values: [ids, ids.map(next), stamp()] });
  written.statuses += ids.length;
};

const lane = async (client: pg.Client, own: readonly WrittenTo[]): Promise<void> => {
  for (let turn = 0; !over; turn += 1) {
    while (begun >= allowed && !over) await new Promise<void>((resolve) => waiting.push(resolve));
    if (over) break;
    await write(client, own, turn);
    signaller?.changed();
  }
};

serveWorker({
  setUp: async (setup: WriterSetup) => {
    targets = setup.targets;
    const database = new Database({
      url: setup.databaseUrl,
      pooled: false,
      poolSize: 1,
      applicationName: "bench writer",
      clock: systemClock,
      log: silentLog(),
    });
    signaller = new Signaller({ database, clock: systemClock, log: silentLog() });
    await signaller.start();
    for (let i = 0; i < setup.connections; i += 1) {
      const client = new pg.Client({ connectionString: setup.databaseUrl });
      await client.connect();
      clients.push(client);
    }
  },
  /** Writes until `stop`, as far as it is allowed. Each connection has agents of its own: their numbers are in order. */
  start: () => {
    over = false;
    running = clients.map((client, i) =>
      lane(
        client,
        targets.filter((_, t) => t % clients.length === i),
      ),
    );
  },
  /** So many changes that are heard may have been written in all. */
  allow: (changes: number) => {
    allowed = changes;
    wakeAll();
  },
  written: (): Written => ({ ...written }),
  stop: async () => {
    over = true;
    wakeAll();
    await Promise.all(running);
  },
  /** The last number that each agent or person was given. */
  last: () => new Map(numbers),
});
