import { randomUUID } from "node:crypto";
import type { Uuid } from "@rootstock/protocol";
import { silentLog, systemClock } from "@rootstock/service";
import { claimMessages, claimMessagesOf, Database, settleDelivered } from "@rootstock/store";
import { api, type Past, TEST_TOKEN, writePast } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import {
  type BenchAgent,
  type BenchDatabase,
  type BenchServer,
  createAgents,
  joinMany,
  messageBody,
  messagePath,
  startReplica,
} from "../cluster.ts";
import { HttpLane } from "../httpLane.ts";
import { timesFigures } from "../report.ts";
import { Samples, timed } from "../samples.ts";
import { startWorker } from "../worker.ts";

/** Two pages of each list, and little more: "empty" as far as a page can be compared. */
const SHORT: Past = { agents: 600, messages: 2_000, changes: 2_000, others: 100 };
const LONG: Past = { agents: 100_000, messages: 1_000_000, changes: 1_000_000, others: 100_000 };
const PAGE = 50;
/** What a past may cost. */
const FACTOR = 1.2;

/** Does one thing and resolves with the milliseconds that count. */
type Measure = () => Promise<number>;

/** A hub with a past, and what is measured of it. */
interface World {
  readonly measures: ReadonlyMap<string, Measure>;
  stop(): Promise<void>;
}

const startWorld = async (server: BenchServer, past: Past): Promise<World> => {
  const database = await server.database();
  const owner = await startReplica({ databaseUrl: database.url, name: "owner" });
  const entry = await startReplica({ databaseUrl: database.url, name: "entry" });
  const peers = await startWorker("runtimeBrokers.ts");
  const credentials = await joinMany(owner, 1);
  await peers.call(
    "dial",
    credentials.map((c) => ({ ...c, urls: [owner.url] })),
  );
  const ids = credentials.map((c) => c.brokerId);
  const [agent] = await createAgents(database, owner, ids, 1);
  if (!agent) throw new Error("no agent");
  const userId = (await api(owner, "GET", "/api/v1/auth/me")).text("id");
  await writePast(database.url, past, { agentId: agent.id, userId });
  const claims = await Claims.begin(database, agent);
  await database.query("vacuum (analyze)");

  // Opened with the first call: until the other world is written, this one would be idle for too long.
  let opened: Promise<HttpLane> | undefined;
  const lane = () => {
    opened ??= HttpLane.open(entry.url, TEST_TOKEN);
    return opened;
  };
  const call = (method: string, path: string, body?: () => string): Measure => {
    const once = async () => {
      const reply = await (await lane()).request(method, path, body?.());
      if (reply.status !== 200) throw new Error(`${path} got ${reply.status}: ${reply.body}`);
    };
    return () => timed(once);
  };
  let n = 0;
  const numbered = () => {
    n += 1;
    return messageBody(`one:${agent.slug}:${n}`);
  };
  return {
    measures: new Map([
      ["forwarded message", call("POST", messagePath(agent), numbered)],
      ["page of agents", call("GET", `/api/v1/agents?limit=${PAGE}`)],
      ["page of own agents", call("GET", `/api/v1/agents?mine=true&limit=${PAGE}`)],
      ["page of messages", call("GET", `/api/v1/messages?limit=${PAGE}`)],
      ["page of a conversation", call("GET", `/api/v1/agents/${agent.id}/messages?limit=${PAGE}`)],
      ["claim of a woken agent's message", () => claims.ofWoken()],
      ["claim of whatever waits", () => claims.ofAny()],
    ]),
    stop: async () => {
      (await opened)?.close();
      await claims.end();
      await peers.stop();
      await entry.stop();
      await owner.stop();
      await database.drop();
    },
  };
};

/** Claims by the store's own statements, for a runtime broker whose socket nobody else holds. */
class Claims {
  readonly #store: Database;
  readonly #scope: Parameters<typeof claimMessages>[1];
  readonly #agentId: Uuid;
  readonly #insert: () => Promise<unknown>;

  private constructor(
    store: Database,
    scope: Parameters<typeof claimMessages>[1],
    agentId: Uuid,
    insert: () => Promise<unknown>,
  ) {
    this.#store = store;
    this.#scope = scope;
    this.#agentId = agentId;
    this.#insert = insert;
  }

  /** Half of the past of `like`, and of its runtime broker's, becomes that of an agent and a runtime broker of their own. */
  static async begin(database: BenchDatabase, like: BenchAgent): Promise<Claims> {
    const [runtimeBrokerId, instanceId, sessionId, agentId] = [uuid(), uuid(), uuid(), uuid()];
    await database.query("set session_replication_role = replica");
    await database.query(
      `insert into runtime_brokers (id, name, slug, connected_hub_id, connected_session_id, connected_at, status)
       values ($1, 'claims', 'claims', $2, $3, now(), 'online')`,
      [runtimeBrokerId, instanceId, sessionId],
    );
    await database.query(
      `update agents set runtime_broker_id = $1 where runtime_broker_id = $2 and slug ~ '^past-.*[02468]$'`,
      [runtimeBrokerId, like.runtimeBrokerId],
    );
    await database.query(
      `insert into agents (id, project_id, slug, name, runtime_broker_id, phase, activity, running_since, ready_at)
       select $1, project_id, 'claims', 'claims', $2, 'running', 'working', now(), now() from agents where id = $3`,
      [agentId, runtimeBrokerId, like.id],
    );
    await database.query(
      `update messages set agent_id = $1, runtime_broker_id = $2 where agent_id = $3 and state = 'delivered' and seq % 4 = 0`,
      [agentId, runtimeBrokerId, like.id],
    );
    await database.query("reset session_replication_role");
    const store = new Database({
      url: database.url,
      pooled: false,
      poolSize: 1,
      applicationName: "bench",
      clock: systemClock,
      log: silentLog(),
    });
    const scope = { instanceId, sockets: [{ runtimeBrokerId, sessionId, slots: 8 }], busyAgents: [] };
    return new Claims(store, scope, agentId, () =>
      database.query(
        `insert into messages (id, project_id, agent_id, runtime_broker_id, sender, recipient, recipient_id, msg, state)
         select gen_random_uuid(), project_id, id, runtime_broker_id, 'user:bench', 'agent:claims', id, 'a line of text',
           'pending' from agents where id = $1`,
        [agentId],
      ),
    );
  }

  /** As after a signal. */
  ofWoken(): Promise<number> {
    const [socket] = this.#scope.sockets;
    const runtimeBrokerId = socket?.runtimeBrokerId ?? uuid();
    const agents = [{ agentId: this.#agentId, runtimeBrokerId }];
    return this.#time(() => claimMessagesOf(this.#store.db, { ...this.#scope, agents }));
  }

  /** As after a reconnect, and when a signal was lost. */
  ofAny(): Promise<number> {
    return this.#time(() => claimMessages(this.#store.db, this.#scope));
  }

  end(): Promise<void> {
    return this.#store.stop();
  }

  async #time(claim: () => Promise<readonly { readonly id: Uuid }[]>): Promise<number> {
    await this.#insert();
    let claimed: readonly { readonly id: Uuid }[] = [];
    const ms = await timed(async () => {
      claimed = await claim();
    });
    if (claimed.length !== 1) throw new Error(`claimed ${claimed.length} messages`);
    const { instanceId, sockets } = this.#scope;
    const sessionId = sockets[0]?.sessionId ?? uuid();
    await settleDelivered(this.#store.db, { instanceId, deliveries: claimed.map(({ id }) => ({ id, sessionId })) });
    return ms;
  }
}

const uuid = () => randomUUID() as Uuid;

/**
 * What a past costs today's calls: two hubs on one PostgreSQL, one with little more than a page of everything, one with
 * that of months; in rounds of both, so that a busy moment of the machine meets both alike.
 */
export const growth: Bench = async ({ server, quick, say }) => {
  const share = quick ? 20 : 1;
  const long: Past = {
    agents: LONG.agents / share,
    messages: LONG.messages / share,
    changes: LONG.changes / share,
    others: LONG.others / share,
  };
  say(`writing ${long.messages} messages, ${long.agents} agents, ${long.changes} changes`);
  const worlds = [await startWorld(server, SHORT), await startWorld(server, long)] as const;
  const [young, old] = worlds;
  const names = [...young.measures.keys()];
  const samples = new Map(names.flatMap((name) => worlds.map((w) => [w.measures.get(name), new Samples()] as const)));
  const rounds = quick ? 4 : 30;
  for (let round = quick ? -1 : -5; round <= rounds; round += 1) {
    for (const name of names)
      for (const world of worlds) {
        const measure = world.measures.get(name);
        for (let i = 0; measure && i < 20; i += 1) {
          const ms = await measure();
          if (round > 0) samples.get(measure)?.add(ms);
        }
      }
    if (round > 0 && round % 10 === 0) say(`round ${round} of ${rounds}`);
  }
  for (const world of worlds) await world.stop();
  return names.flatMap((name) => {
    const of = (world: World) => samples.get(world.measures.get(name)) ?? new Samples();
    const against = { name: "without a past", value: of(young).p50 };
    const [p50] = timesFigures("growth", name, of(old), { against, p50Factor: FACTOR });
    return p50 ? [p50] : [];
  });
};
