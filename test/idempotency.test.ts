import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  api,
  eventually,
  type InProcessReplica,
  Scene,
  type SimulatedRuntimeBroker,
  TEST_TOKEN,
} from "@rootstock/testkit";
import { PostgresProxy } from "./chaos/postgresProxy.ts";

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let project: string;

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  project = await scene.project(owner);
});
afterEach(() => scene.end());

const keyed = (replica: InProcessReplica, path: string, body: unknown, key = "k1") =>
  api(replica, "POST", path, body, { headers: { "idempotency-key": key } });

test("a create repeated on another replica gets the first answer, and there is one agent", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const path = `/api/v1/projects/${project}/agents`;
  const first = await keyed(owner, path, { name: "a1" });
  expect(first.status).toBe(201);
  const again = await keyed(entry, path, { name: "a1" });
  expect([again.status, again.json]).toEqual([first.status, first.json]);
  expect(runtimeBroker.received.filter((r) => r.method === "POST" && r.path === "/api/v1/agents")).toHaveLength(1);
});

test("the same key with another body or path is refused", async () => {
  await scene.runtimeBroker(owner);
  const path = `/api/v1/projects/${project}/agents`;
  await keyed(owner, path, { name: "a1" });
  for (const other of [
    await keyed(entry, path, { name: "a2" }),
    await keyed(entry, "/api/v1/agents/stop-all", undefined),
  ])
    expect([other.status, other.get("error.code")]).toEqual([422, "idempotency_key_reused"]);
});

test("two calls with one key at once do the work once and hear the same", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const path = `/api/v1/projects/${project}/agents`;
  const replies = await Promise.all([keyed(owner, path, { name: "a1" }), keyed(entry, path, { name: "a1" })]);
  expect(replies.map((r) => r.status)).toEqual([201, 201]);
  expect(replies[0]?.text("agent.id")).toBe(replies[1]?.text("agent.id"));
  expect(runtimeBroker.received.filter((r) => r.method === "POST" && r.path === "/api/v1/agents")).toHaveLength(1);
});

test("a message repeated with its key reaches the agent once", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const path = `/api/v1/agents/${agent}/message`;
  const first = await keyed(owner, path, { structured_message: { msg: "once" } });
  const again = await keyed(entry, path, { structured_message: { msg: "once" } });
  expect(first.status).toBe(200);
  expect(again.text("message_id")).toBe(first.text("message_id"));
  expect(runtimeBroker.delivered).toHaveLength(1);
});

test("a refusal that changed nothing is not kept", async () => {
  const path = `/api/v1/projects/${project}/agents`;
  expect((await keyed(owner, path, { name: "a1" })).status).toBe(422);
  await scene.runtimeBroker(owner);
  expect((await keyed(entry, path, { name: "a1" })).status).toBe(201);
});

test("a failure after the commit is kept: the retry hears the same and nothing runs again", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: () => ({ status: 500, body: { error: { message: "no such image" } } }),
  });
  const path = `/api/v1/projects/${project}/agents`;
  const first = await keyed(owner, path, { name: "a1" });
  const again = await keyed(entry, path, { name: "a1" });
  expect([first.status, again.status]).toEqual([502, 502]);
  expect(again.get("error.message")).toBe(first.get("error.message"));
  expect(runtimeBroker.received.filter((r) => r.method === "POST")).toHaveLength(1);
});

test("after the entry replica is gone the retry finishes the same operation under the same ids", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const third = await scene.replica();
  runtimeBroker.holdAnswers();
  const path = `/api/v1/projects/${project}/agents`;
  const lost = keyed(third, path, { name: "a1" }).catch(() => undefined);
  await runtimeBroker.onRequest.next((r) => r.path === "/api/v1/agents");
  const [row] = await scene.database.query<{ agent: string }>("select agent_id::text as agent from broker_dispatch");
  const retry = keyed(entry, path, { name: "a1" });
  await eventually(
    async () => (await scene.database.query("select 1 from idempotency_keys where status is null")).length === 1,
  );
  runtimeBroker.releaseAnswers();
  const answer = await retry;
  expect([answer.status, answer.text("agent.id")]).toEqual([201, row?.agent]);
  await lost;
  expect(runtimeBroker.received.filter((r) => r.method === "POST" && r.path === "/api/v1/agents")).toHaveLength(1);
});

test("kept answers are encrypted", async () => {
  await scene.runtimeBroker(owner);
  const made = await keyed(owner, `/api/v1/projects/${project}/agents`, { name: "a1" });
  const rows = await scene.database.query<{ text: string }>(
    "select encode(answer, 'escape') || operation::text as text from idempotency_keys",
  );
  expect(rows[0]?.text).not.toContain(made.text("agent.created"));
});

test("a key that is too long is refused and named", async () => {
  const refused = await keyed(owner, `/api/v1/projects/${project}/agents`, { name: "a1" }, "x".repeat(300));
  expect([refused.status, refused.get("error.details.field")]).toEqual([400, "Idempotency-Key"]);
});

describe("a call that its caller has given up on, and repeats elsewhere where it is refused", () => {
  let proxy: PostgresProxy;
  let slow: InProcessReplica;
  let agent: string;
  let runtimeBroker: SimulatedRuntimeBroker;
  beforeEach(async () => {
    proxy = await PostgresProxy.start(scene.database.url);
    scene.onEnd(() => proxy.stop());
    slow = await scene.replica({}, { databaseUrl: proxy.url });
    runtimeBroker = await scene.runtimeBroker(owner);
    agent = await scene.agent(owner, project, "a1");
  });

  const send = (replica: InProcessReplica) =>
    keyed(replica, `/api/v1/agents/${agent}/message`, { structured_message: { msg: "once" } });
  const stop = () => api(owner, "POST", `/api/v1/agents/${agent}/stop`);
  const rows = () => scene.database.query("select id from messages");

  test.each([
    ["agent_not_running", "phase = 'stopped'", "phase = 'running'"],
    ["no_runtime_broker", "runtime_broker_id = null", "runtime_broker_id = (select id from runtime_brokers)"],
  ])("does not run after the refusal with %s, and may be tried again", async (code, obstacle, gone) => {
    const held = proxy.hold("insert into idempotency_keys");
    const first = send(slow);
    const letThrough = await held;
    await scene.database.query(`update agents set ${obstacle}`);
    expect((await send(entry)).get("error.code")).toBe(code);
    letThrough();
    expect((await first).get("error.code")).toBe("request_in_progress");
    expect(await rows()).toEqual([]);
    await scene.database.query(`update agents set ${gone}`);
    await scene.ready(owner, agent);
    expect((await send(entry)).status).toBe(200);
    expect(runtimeBroker.delivered).toHaveLength(1);
  });

  test("is not begun when it is read after the refusal", async () => {
    const headers = `Host: hub\r\nAuthorization: Bearer ${TEST_TOKEN}\r\nIdempotency-Key: k1\r\nContent-Type: application/json`;
    const body = JSON.stringify({ structured_message: { msg: "once" } });
    const held = proxy.hold('from "idempotency_keys"');
    const caller = connect(Number(new URL(slow.url).port), "127.0.0.1");
    caller.write(
      `POST /api/v1/agents/${agent}/message HTTP/1.1\r\n${headers}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const letThrough = await held;
    caller.end();
    await once(caller.resume(), "close");
    expect((await stop()).status).toBe(200);
    expect((await send(entry)).get("error.code")).toBe("agent_not_running");
    await api(owner, "POST", `/api/v1/agents/${agent}/start`);
    await scene.ready(owner, agent);
    letThrough();
    const answered =
      /requests?_seconds_count\{route="\/api\/v1\/agents\/:agentId\/message",method="POST",status="(\d+)"/;
    const status = async () => answered.exec((await api(slow, "GET", "/metrics")).body)?.[1];
    await eventually(async () => (await status()) !== undefined);
    expect(await status()).toBe("503");
    expect(await rows()).toEqual([]);
  });

  test("hears of the first when that was accepted in the same moment", async () => {
    const held = proxy.hold("insert into messages");
    const first = send(slow);
    const letThrough = await held;
    expect((await stop()).status).toBe(200);
    const again = send(entry);
    await eventually(
      async () =>
        (await scene.database.query("select 1 from pg_stat_activity where wait_event_type = 'Lock'")).length === 1,
    );
    letThrough();
    expect([(await again).status, (await again).json]).toEqual([202, (await first).json]);
    expect(await rows()).toEqual([{ id: (await again).text("message_id") }]);
  });
});
