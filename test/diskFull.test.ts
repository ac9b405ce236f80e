import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, eventually, type InProcessReplica, Scene, type SimulatedRuntimeBroker } from "@rootstock/testkit";

/** The database answers, and refuses to write for a while: its disk is full. */

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let runtimeBroker: SimulatedRuntimeBroker;
let agent: string;

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  runtimeBroker = await scene.runtimeBroker(owner);
  agent = await scene.agent(entry, await scene.project(entry), "a1");
});
afterEach(() => scene.end());

/** From now on the server refuses what would change the table, and counts how often. Returns how to end that. */
const fill = async (table: string): Promise<() => Promise<unknown>> => {
  await scene.database.query("create sequence refusals");
  await scene.database.query(`create or replace function full_disk() returns trigger language plpgsql as $$ begin
    perform nextval('refusals');
    raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$`);
  await scene.database.query(`create trigger full_disk before insert or update on ${table}
    for each statement execute function full_disk()`);
  return () => scene.database.query(`drop trigger full_disk on ${table}`);
};

const starts = () => runtimeBroker.received.filter((r) => r.path.endsWith("/start"));

test("a message that cannot be stored is refused as unavailable, and may come again", async () => {
  const send = () => api(entry, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "hello" } });
  const clear = await fill("messages");
  const refused = await send();
  expect([refused.status, refused.get("error.code"), refused.headers.has("retry-after")]).toEqual([
    503,
    "unavailable",
    true,
  ]);
  await clear();
  expect((await send()).status).toBe(200);
});

test("a start whose end cannot be written is not begun again: it is written when there is room", async () => {
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  runtimeBroker.holdAnswers();
  const start = api(entry, "POST", `/api/v1/agents/${agent}/start`);
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/start"));
  const clear = await fill("broker_dispatch");
  runtimeBroker.releaseAnswers();
  await eventually(async () => {
    const [refusals] = await scene.database.query<{ n: string }>("select last_value as n from refusals");
    return Number(refusals?.n) > 3;
  });
  await clear();
  const answer = await start;
  expect([answer.status, answer.get("phase")]).toEqual([200, "running"]);
  expect(starts()).toHaveLength(1);
});

test("a start whose end cannot be written as it is, for whatever reason, is asked about before it is begun again", async () => {
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  await scene.database.query("create sequence refusals");
  await scene.database.query(`create function refuse_once() returns trigger language plpgsql as $$ begin
    if new.state = 'done' and nextval('refusals') = 1 then raise exception 'no'; end if;
    return new; end $$`);
  await scene.database.query(
    "create trigger refuse_once before update on broker_dispatch for each row execute function refuse_once()",
  );
  const answer = await api(entry, "POST", `/api/v1/agents/${agent}/start`);
  expect([answer.status, answer.get("phase")]).toEqual([200, "running"]);
  expect(starts()).toHaveLength(1);
});
