import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, type InProcessReplica, Scene, seed } from "@rootstock/testkit";

/**
 * Agents and projects with a long history go as others do: no statement touches more of their messages than it can in a
 * moment. What has no bound ends at the time that a statement may take, and is tried again for ever.
 */

const TOLD = 12_000;
const AT_ONCE = 7_500;
const AGENTS = 1_000;
const AGENTS_AT_ONCE = 200;

let scene: Scene;
let replica: InProcessReplica;
let project: string;
let agent: string;

beforeEach(async () => {
  scene = await Scene.create();
  replica = await scene.replica();
  project = await scene.project(replica);
  await scene.runtimeBroker(replica);
  agent = await scene.agent(replica, project, "a1");
  await scene.database.query(
    `insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg, state, dispatched_at, read)
     select gen_random_uuid(), $1, $2::uuid, 'user:x', gen_random_uuid(), 'agent:a1', $2, 'told before',
         case when n % 10 > 0 then 'delivered' end, now(), true
       from generate_series(1, $3::int) n`,
    [project, agent, TOLD],
  );
  await scene.database.query("create table touched (n bigint not null)");
  await scene.database.query(
    `create function count_touched() returns trigger language plpgsql as $$
     begin insert into touched select count(*) from before; return null; end $$`,
  );
  for (const what of ["update", "delete"])
    await scene.database.query(
      `create trigger count_${what}s after ${what} on messages referencing old table as before
         for each statement execute function count_touched()`,
    );
});
afterEach(() => scene.end());

const most = async () =>
  Number((await scene.database.query<{ n: string }>("select max(n) as n from touched"))[0]?.n ?? 0);
/** Many agents where nobody answers: half of them wait for something. */
const manyAgents = async () => {
  const away = await seed(scene.database).runtimeBroker();
  await scene.database.query("truncate touched");
  for (const what of ["update", "delete"])
    await scene.database.query(
      `create trigger count_agents_${what} after ${what} on agents referencing old table as before
         for each statement execute function count_touched()`,
    );
  await scene.database.query(
    `insert into agents (id, project_id, slug, name, runtime_broker_id)
     select gen_random_uuid(), $1, 'many-' || n, 'many-' || n, $2 from generate_series(1, $3::int) n`,
    [project, away, AGENTS],
  );
  await scene.database.query(
    `insert into messages (id, project_id, agent_id, runtime_broker_id, sender, recipient, msg, state)
     select gen_random_uuid(), project_id, id, runtime_broker_id, 'user:x', 'agent:y', 'waits', 'pending'
       from agents, generate_series(1, 20) where slug like 'many-%5'`,
  );
  return away;
};
const count = async (which: string, ...values: readonly unknown[]) =>
  (await scene.database.query<{ n: number }>(`select count(*)::int as n from messages where ${which}`, values))[0]?.n;

test("an agent that is deleted for good leaves its messages, a piece at a time", async () => {
  expect((await api(replica, "DELETE", `/api/v1/agents/${agent}?force=true`)).status).toBe(204);
  expect(await count("agent_id is null and project_id = $1", project)).toBe(TOLD);
  expect(await most()).toBeLessThanOrEqual(AT_ONCE);
});

test("an agent for which many messages wait fails them a piece at a time", async () => {
  await scene.database.query("update messages set state = 'pending', dispatched_at = null where state is not null");
  await scene.database.query("update agents set phase = 'stopped' where id = $1", [agent]);
  await scene.database.query("truncate touched");
  expect((await api(replica, "DELETE", `/api/v1/agents/${agent}?force=true`)).status).toBe(204);
  expect(await count("agent_id is null and state = 'failed' and project_id = $1", project)).toBe(TOLD * 0.9);
  expect(await most()).toBeLessThanOrEqual(AT_ONCE);
});

test("a runtime broker leaves its agents and projects, a piece at a time", async () => {
  const away = await manyAgents();
  expect((await api(replica, "DELETE", `/api/v1/runtime-brokers/${away}`)).status).toBe(204);
  const [left] = await scene.database.query<{ n: number }>(
    "select count(*)::int as n from agents where runtime_broker_id is null",
  );
  expect(left?.n).toBe(AGENTS);
  expect(await most()).toBeLessThanOrEqual(AGENTS_AT_ONCE);
});

test("a project takes its agents along, a piece at a time", async () => {
  await scene.database.query("delete from messages");
  await manyAgents();
  expect((await api(replica, "DELETE", `/api/v1/projects/${project}`)).status).toBe(204);
  expect(await scene.database.query("select from agents")).toEqual([]);
  expect(await count("true")).toBe(0);
  expect(await most()).toBeLessThanOrEqual(AT_ONCE);
  const changes = await scene.database.query<{ n: number }>(
    "select count(*)::int as n from change_log where entity = 'agent' and op = 'D' group by tx",
  );
  expect(Math.max(...changes.map((c) => c.n))).toBeLessThanOrEqual(AGENTS_AT_ONCE);
});

test("a project takes its messages along, a piece at a time", async () => {
  expect((await api(replica, "DELETE", `/api/v1/projects/${project}`)).status).toBe(204);
  expect(await count("project_id = $1", project)).toBe(0);
  expect(await most()).toBeLessThanOrEqual(AT_ONCE);
});
