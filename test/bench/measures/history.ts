import { TEST_TOKEN } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { type BenchDatabase, createAgents, joinMany, messageBody, messagePath, startReplica } from "../cluster.ts";
import { HttpLane } from "../httpLane.ts";
import { atMost } from "../report.ts";
import { Samples, timed } from "../samples.ts";
import { startWorker } from "../worker.ts";

const AGENTS = 10_000;
const MESSAGES = 100_000;

/** As much past as a hub of some months has: a tenth of the messages went to the very agent that is measured. */
const loadHistory = async (database: BenchDatabase, agentId: string): Promise<void> => {
  // Without triggers: the past is not news.
  await database.query("set session_replication_role = replica");
  await database.query(
    `insert into agents (id, project_id, slug, name, runtime_broker_id, phase)
     select gen_random_uuid(), a.project_id, 'past-' || n, 'past-' || n, a.runtime_broker_id, 'stopped'
       from agents a, generate_series(1, $2::int) n where a.id = $1`,
    [agentId, AGENTS],
  );
  await database.query(
    `with past as (select id, row_number() over () as n from agents where slug like 'past-%')
     insert into messages (id, project_id, agent_id, runtime_broker_id, sender, recipient, recipient_id, msg, state,
                           attempts, created, dispatched_at)
     select gen_random_uuid(), a.project_id, t.id, a.runtime_broker_id, 'user:someone', 'agent:past', t.id,
            'a line of text', 'delivered', 1, now() - n * interval '1 minute', now() - n * interval '1 minute'
       from agents a, generate_series(1, $2::int) n
      cross join lateral (select case when n % 10 = 0 then $1::uuid
        else (select id from past where past.n = 1 + n % $3::int) end as id) t
      where a.id = $1`,
    [agentId, MESSAGES, AGENTS],
  );
  await database.query("reset session_replication_role");
  await database.query("analyze");
};

/** What delivered messages and stopped agents of the past cost a forwarded message of today. */
export const history: Bench = async ({ server, quick, say }) => {
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
  const lane = await HttpLane.open(entry.url, TEST_TOKEN);
  let n = 0;
  const send = async () => {
    n += 1;
    const { status } = await lane.request("POST", messagePath(agent), messageBody(`one:${agent.slug}:${n}`));
    if (status !== 200) throw new Error(`a message got ${status}`);
  };
  const measure = async (): Promise<Samples> => {
    const samples = new Samples();
    for (let i = 0; i < (quick ? 200 : 1_500); i += 1) samples.add(await timed(send));
    return samples;
  };
  await measure();
  const empty = await measure();
  say(`loading ${AGENTS} agents and ${MESSAGES} messages`);
  await loadHistory(database, agent.id);
  await measure();
  const full = await measure();
  lane.close();
  await peers.stop();
  await entry.stop();
  await owner.stop();
  await database.drop();
  const bench = "history";
  const against = { name: "without a past", value: empty.p50 };
  return [
    { bench, name: "forwarded message without a past, p50", value: empty.p50, unit: "ms" },
    {
      bench,
      name: `forwarded message after ${MESSAGES} messages and ${AGENTS} agents, p50`,
      value: full.p50,
      unit: "ms",
      against,
      target: atMost(full.p50, 1.2 * empty.p50, "<= 1.2 x"),
    },
  ];
};
