import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import { api, eventually, type InProcessReplica, Scene, SimulatedRuntimeBroker } from "@rootstock/testkit";
import { PostgresProxy } from "./chaos/postgresProxy.ts";

/** The database has carried a statement out, and the connection breaks before anybody is told. */

let scene: Scene;
let proxy: PostgresProxy;
let owner: InProcessReplica;
let entry: InProcessReplica;
let project: string;

beforeEach(async () => {
  scene = await Scene.create();
  proxy = await PostgresProxy.start(scene.database.url);
  owner = await scene.replica({}, { databaseUrl: proxy.url });
  entry = await scene.replica();
  project = await scene.project(entry);
});
afterEach(async () => {
  await scene.end();
  await proxy.stop();
});

/** Of a replica that asks no other one: its stops are told by signals. */
const SIGNALS_ONLY = { ROOTSTOCK_STREAM_RELAY: "postgres" };

const send = (replica: InProcessReplica, agent: string, msg: string, key?: string) =>
  api(
    replica,
    "POST",
    `/api/v1/agents/${agent}/message`,
    { structured_message: { msg } },
    key === undefined ? {} : { headers: { "idempotency-key": key } },
  );

/** Far sooner than sockets that nobody holds are found by looking for them, in milliseconds. */
const GIVEN_UP_WITHIN_MS = 5_000;

const messages = () =>
  scene.database.query<{ state: string }>("select state from messages").then((rows) => rows.map((r) => r.state));

const paths = (received: readonly { readonly path: string }[], end: string) =>
  received.filter((r) => r.path.endsWith(end));

test("of an insert on the owner: the message is accepted, stored once and sent once", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const lost = proxy.loseAnswer("insert into messages");
  const sent = await send(owner, agent, "who knows?");
  await lost;
  expect([200, 202]).toContain(sent.status);
  await eventually(async () => expect(await messages()).toEqual(["delivered"]));
  expect(runtimeBroker.received.filter((r) => r.path.endsWith("/message"))).toHaveLength(1);
});

test("of an insert on the owner, and the database stays away: the caller hears that nobody knows", async () => {
  await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const lost = proxy.loseAnswer("insert into messages");
  const sending = send(owner, agent, "who knows?");
  await lost;
  await proxy.stop();
  const sent = await sending;
  expect([sent.status, sent.get("error.details.outcome")]).toEqual([503, "unknown"]);
});

test("of an insert elsewhere: the message is accepted, stored once and sent once", async () => {
  const runtimeBroker = await scene.runtimeBroker(entry);
  const agent = await scene.agent(entry, project, "a1");
  const lost = proxy.loseAnswer("insert into messages");
  const sent = await send(owner, agent, "who knows?");
  await lost;
  expect([200, 202]).toContain(sent.status);
  await eventually(async () => expect(await messages()).toEqual(["delivered"]));
  expect(paths(runtimeBroker.received, "/message")).toHaveLength(1);
});

test("of an insert for an agent that changes in that moment: the message is stored once and sent once", async () => {
  const runtimeBroker = await scene.runtimeBroker(entry);
  const agent = await scene.agent(entry, project, "a1");
  // Decided on what is remembered, so that the repeated insert finds another agent than was decided on.
  expect((await send(owner, agent, "to remember it by")).status).toBe(200);
  const lost = proxy.loseAnswer("insert into messages");
  const sending = send(owner, agent, "who knows?");
  await lost;
  await scene.database.query("update agents set visibility = 'team' where id = $1", [agent]);
  expect([200, 202]).toContain((await sending).status);
  await eventually(async () => expect(await messages()).toEqual(["delivered", "delivered"]));
  expect(paths(runtimeBroker.received, "/message")).toHaveLength(2);
});

test("of the commit of a call with a key: it is carried out once and its end is told", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const lost = proxy.loseAnswer("commit");
  const sent = await send(owner, agent, "who knows?", "k1");
  await lost;
  expect([200, 202]).toContain(sent.status);
  await eventually(async () => expect(await messages()).toEqual(["delivered"]));
  expect(paths(runtimeBroker.received, "/message")).toHaveLength(1);
});

test("of a claim of messages: they are given back and delivered, and so are those behind them", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const lost = proxy.loseAnswer("update messages m set state = 'delivering'");
  const first = send(entry, agent, "claimed by nobody");
  await lost;
  const second = await send(entry, agent, "behind it");
  expect([(await first).status, second.status].filter((s) => s !== 200 && s !== 202)).toEqual([]);
  await eventually(async () => expect(await messages()).toEqual(["delivered", "delivered"]));
  expect(runtimeBroker.delivered.map((d) => Reflect.get(Object(d.body), "structured_message").msg)).toEqual([
    "claimed by nobody",
    "behind it",
  ]);
});

test("of a claim of an operation: it is given back and carried out", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const telling = await scene.replica(SIGNALS_ONLY);
  const lost = proxy.loseAnswer("update broker_dispatch d set state = 'in_progress'");
  const stop = api(telling, "POST", `/api/v1/agents/${agent}/stop`);
  await lost;
  const answer = await stop;
  expect([answer.status, answer.get("phase")]).toEqual([200, "stopped"]);
  expect(paths(runtimeBroker.received, "/stop")).toHaveLength(1);
});

test("of the insert of an operation: it is carried out once and its end is told", async () => {
  const runtimeBroker = await scene.runtimeBroker(entry);
  const agent = await scene.agent(entry, project, "a1");
  const telling = await scene.replica(SIGNALS_ONLY, { databaseUrl: proxy.url });
  const lost = proxy.loseAnswer("accepted_by, hold_reason");
  const answer = await api(telling, "POST", `/api/v1/agents/${agent}/stop`);
  await lost;
  expect([answer.status, answer.get("phase")]).toEqual([200, "stopped"]);
  expect(paths(runtimeBroker.received, "/stop")).toHaveLength(1);
});

test("of the insert of an operation that the owner was asked for: it is carried out once and its end is told", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const lost = proxy.loseAnswer("claim_session, attempts, claimed_at)");
  const answer = await api(entry, "POST", `/api/v1/agents/${agent}/stop`);
  await lost;
  expect([answer.status, answer.get("phase")]).toEqual([200, "stopped"]);
  expect(paths(runtimeBroker.received, "/stop")).toHaveLength(1);
});

test.each([
  ["start", "running"],
  ["stop", "stopped"],
])("of the end of a %s: it is written down again, and nothing is carried out twice", async (verb, phase) => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const telling = await scene.replica(SIGNALS_ONLY);
  if (verb === "start") await api(telling, "POST", `/api/v1/agents/${agent}/stop`);
  const before = paths(runtimeBroker.received, `/${verb}`).length;
  const lost = proxy.loseAnswer("update broker_dispatch d set state = 'done'");
  const answer = await api(telling, "POST", `/api/v1/agents/${agent}/${verb}`);
  await lost;
  expect([answer.status, answer.get("phase")]).toEqual([200, phase]);
  expect(paths(runtimeBroker.received, `/${verb}`)).toHaveLength(before + 1);
});

test("of settling: what was acknowledged is not sent again", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const lost = proxy.loseAnswer("update messages m set state = 'delivered'");
  expect([200, 202]).toContain((await send(entry, agent, "once")).status);
  await lost;
  expect((await send(entry, agent, "twice?")).status).toBe(200);
  await eventually(async () => expect(await messages()).toEqual(["delivered", "delivered"]));
  expect(paths(runtimeBroker.received, "/message")).toHaveLength(2);
});

test("of settling with the next message's insert, which never came: both count, and those behind them", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  let broken = false;
  void proxy.hold("settled as (").then(() => {
    broken = true;
    proxy.cut("pool");
  });
  const sent: number[] = [];
  while (!broken) sent.push((await send(owner, agent, `m${sent.length}`)).status);
  sent.push((await send(owner, agent, "after")).status);
  expect(sent.filter((status) => status >= 300)).toEqual([]);
  await eventually(async () => expect(await messages()).toEqual(sent.map(() => "delivered")));
  expect(paths(runtimeBroker.received, "/message")).toHaveLength(sent.length);
});

test("of a dial's claim: a socket that never was is not named as the runtime broker's", async () => {
  const credentials = await scene.join(entry, "laptop");
  const lost = proxy.loseAnswer("connected_session_id = ", true);
  const runtimeBroker = new SimulatedRuntimeBroker({ hubUrl: owner.url, credentials, redials: false });
  scene.onEnd(() => runtimeBroker.stop());
  const refused = runtimeBroker.onRefusedDial.next();
  void runtimeBroker.connect();
  await lost;
  expect(await refused).toBe(503);
  await eventually(async () => {
    const rows = await scene.database.query("select connected_session_id as session from runtime_brokers");
    expect(rows).toEqual([{ session: null }]);
  }, GIVEN_UP_WITHIN_MS);
});

test("of the commit of a message to a person: it is stored once and its end is told", async () => {
  const runtimeBroker = await scene.runtimeBroker(entry);
  const agent = await scene.agent(entry, project, "a1");
  const token: unknown = runtimeBroker.received.map((r) => Reflect.get(Object(r.json), "agentToken")).find(Boolean);
  const lost = proxy.loseAnswer("insert into messages", true);
  const sent = await api(
    owner,
    "POST",
    `/api/v1/agents/${agent}/outbound-message`,
    { msg: "done" },
    { headers: { authorization: "", [AGENT_TOKEN_HEADER]: String(token) } },
  );
  await lost;
  expect(sent.status).toBe(200);
  expect(await scene.database.query("select id from messages")).toEqual([{ id: sent.text("message_id") }]);
});

test("of the commit of a restore: the agent is back and the answer says so", async () => {
  await scene.runtimeBroker(entry);
  const agent = await scene.agent(entry, project, "a1");
  expect((await api(entry, "DELETE", `/api/v1/agents/${agent}`)).status).toBe(204);
  const lost = proxy.loseAnswer('update "agents"', true);
  const restored = await api(owner, "POST", `/api/v1/agents/${agent}/restore`);
  await lost;
  expect([restored.status, restored.get("phase")]).toEqual([200, "stopped"]);
});

test("of the commit of a create: the caller hears that nobody knows, not that it failed", async () => {
  await scene.runtimeBroker(entry);
  const lost = proxy.loseAnswer('insert into "agents"', true);
  const made = await api(owner, "POST", `/api/v1/projects/${project}/agents`, { name: "a1", task: "wait" });
  await lost;
  expect([made.status, made.get("error.details.outcome")]).toEqual([503, "unknown"]);
});
