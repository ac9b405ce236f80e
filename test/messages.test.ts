import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { api, eventually, type InProcessReplica, Scene } from "@rootstock/testkit";

/** Messages between two replicas: the runtime broker hangs on `owner`, calls reach either. */

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

const send = (replica: InProcessReplica, agent: string, msg: string, more: object = {}, headers = {}) =>
  api(replica, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg }, ...more }, { headers });

const texts = (delivered: readonly { readonly body: unknown }[]): unknown[] =>
  delivered.map((d) => {
    const body = d.body as { structured_message: { msg: string } };
    return body.structured_message.msg;
  });

test("a message is acknowledged through the owner and through another replica", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  for (const replica of [owner, entry]) {
    const sent = await send(replica, agent, `via ${replica.name}`);
    expect(sent.status).toBe(200);
    expect(sent.json).toMatchObject({ status: "delivered", agent: "a1", agent_phase: "running" });
  }
  expect(texts(runtimeBroker.delivered)).toEqual([`via ${owner.name}`, `via ${entry.name}`]);
});

test("a message that found the socket busy goes out when it is free, not with the next poll", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
  const agent = await scene.agent(owner, project, "a1");
  const other = await scene.agent(owner, project, "a2");
  const ROUNDS = 8;
  const began = systemClock.elapsed();
  for (let i = 0; i < ROUNDS; i += 1) {
    const replica = i % 2 ? owner : entry;
    runtimeBroker.holdAnswers();
    const asked = runtimeBroker.onRequest.next();
    const busy =
      i % 4 < 2
        ? send(owner, other, "busy")
        : api(owner, "POST", `/api/v1/agents/${other}/exec`, { command: ["true"] });
    await asked;
    const sent = send(replica, agent, `m${i}`);
    await eventually(async () => {
      const waiting = await scene.database.query("select 1 from messages where agent_id = $1 and state = 'pending'", [
        agent,
      ]);
      return waiting.length === 1;
    });
    runtimeBroker.releaseAnswers();
    expect([(await busy).status, (await sent).status]).toEqual([200, 200]);
  }
  // The poll comes once a second: half a second a round on average.
  expect(systemClock.elapsed() - began).toBeLessThan(ROUNDS * 300);
});

test("invariant 4: messages arrive in the order in which they were accepted, whichever replica accepted them", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const sent: string[] = [];
  for (let i = 0; i < 60; i += 1) {
    const msg = `m${i}`;
    const reply = await send(i % 3 === 0 ? owner : entry, agent, msg);
    expect([200, 202]).toContain(reply.status);
    sent.push(msg);
  }
  await eventually(() => runtimeBroker.delivered.length === sent.length);
  expect(texts(runtimeBroker.delivered)).toEqual(sent);
});

test("invariant 4: many senders at once on both replicas: every message once, each sender's in order", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const senders = Array.from({ length: 8 }, (_, s) => s);
  await Promise.all(
    senders.map(async (s) => {
      for (let i = 0; i < 10; i += 1) await send(s % 2 ? owner : entry, agent, `${s}:${i}`);
    }),
  );
  await eventually(() => runtimeBroker.delivered.length >= 80);
  const arrived = texts(runtimeBroker.delivered).map(String);
  expect(new Set(arrived).size).toBe(80);
  expect(arrived).toHaveLength(80);
  for (const s of senders)
    expect(arrived.filter((t) => t.startsWith(`${s}:`))).toEqual(Array.from({ length: 10 }, (_, i) => `${s}:${i}`));
});

test("a message to an agent that is stopped is refused, and says how to wake it", async () => {
  await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  await api(entry, "POST", `/api/v1/agents/${agent}/stop`);
  const refused = await send(entry, agent, "anybody there?");
  expect(refused.status).toBe(409);
  expect(refused.get("error.code")).toBe("agent_not_running");
  expect(refused.text("error.message")).toContain("start it");
  expect(await scene.database.query("select id from messages")).toEqual([]);
});

test("a message kept for the next run arrives after the start, before later ones", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  await api(owner, "POST", `/api/v1/agents/${agent}/stop`);
  const kept = await send(entry, agent, "first thing", { queue: true });
  expect(kept.status).toBe(202);
  expect(kept.json).toMatchObject({ status: "pending", reason: "the agent is stopped" });
  await api(entry, "POST", `/api/v1/agents/${agent}/start`);
  expect((await send(owner, agent, "second thing")).status).toBe(202);
  await scene.ready(owner, agent);
  await eventually(() => runtimeBroker.delivered.length === 2);
  expect(texts(runtimeBroker.delivered)).toEqual(["first thing", "second thing"]);
});

test("message accepted, agent stopped before delivery: held, delivered after the next start, never dropped", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  runtimeBroker.holdAnswers();
  const first = send(owner, agent, "on the wire");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  const second = await send(entry, agent, "behind it");
  expect(second.status).toBe(202);
  const stop = api(entry, "POST", `/api/v1/agents/${agent}/stop`);
  await eventually(
    async () => (await scene.database.query("select id from broker_dispatch where op = 'stop'")).length > 0,
  );
  runtimeBroker.releaseAnswers();
  expect((await stop).status).toBe(200);
  await first;
  expect(texts(runtimeBroker.delivered)).toEqual(["on the wire"]);
  await api(owner, "POST", `/api/v1/agents/${agent}/start`);
  await scene.ready(owner, agent);
  await eventually(() => runtimeBroker.delivered.length === 2);
  expect(texts(runtimeBroker.delivered)).toEqual(["on the wire", "behind it"]);
});

test("an agent that is still coming up gets its messages once it has reported an activity", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const made = await api(entry, "POST", `/api/v1/projects/${project}/agents`, { name: "a1", task: "wait" });
  const agent = made.text("agent.id");
  expect((await send(entry, agent, "too early")).status).toBe(202);
  expect(runtimeBroker.delivered).toEqual([]);
  await scene.ready(owner, agent);
  await eventually(() => runtimeBroker.delivered.length === 1);
});

test("a runtime broker that is away for less than the grace gets its messages when it returns", async () => {
  const credentials = await scene.join(owner, "laptop");
  const before = await scene.connect(owner, credentials);
  const agent = await scene.agent(owner, project, "a1");
  await before.stop();
  await eventually(async () => {
    const [row] = await scene.database.query("select connected_hub_id from runtime_brokers");
    return row?.connected_hub_id === null;
  });
  const kept = await send(entry, agent, "see you");
  expect(kept.status).toBe(202);
  expect(kept.text("reason")).toContain("not connected");
  const after = await scene.connect(entry, credentials);
  await eventually(() => after.delivered.length === 1);
});

test("after the grace nothing is promised: 503 and nothing stored, unless it is to be kept", async () => {
  const credentials = await scene.join(owner, "laptop");
  const runtimeBroker = await scene.connect(owner, credentials);
  const agent = await scene.agent(owner, project, "a1");
  await runtimeBroker.stop();
  await eventually(async () => {
    const rows = await scene.database.query(
      "update runtime_brokers set disconnected_at = now() - interval '91 seconds' where connected_hub_id is null returning id",
    );
    return rows.length === 1;
  });
  const refused = await send(entry, agent, "hello?");
  expect(refused.status).toBe(503);
  expect(refused.get("error.code")).toBe("runtime_broker_unavailable");
  expect(await scene.database.query("select id from messages")).toEqual([]);
  expect((await send(entry, agent, "hello?", { queue: true })).status).toBe(202);
});

test("a message that the runtime broker refuses fails with its reason and lets the next one through", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: (request) => {
      const body = request.json as { structured_message?: { msg: string } } | undefined;
      if (body?.structured_message?.msg === "bad")
        return { status: 400, body: { error: { code: "invalid_request", message: "no such thing" } } };
      return runtimeBroker.agents.handle(request);
    },
  });
  const agent = await scene.agent(owner, project, "a1");
  const bad = await send(entry, agent, "bad");
  expect(bad.status).toBe(502);
  expect(bad.text("error.message")).toContain("no such thing");
  expect((await send(entry, agent, "good")).status).toBe(200);
  // The sender has heard before the row says so.
  await eventually(async () => {
    const rows = await scene.database.query("select state, error from messages order by seq");
    expect(rows).toMatchObject([{ state: "failed" }, { state: "delivered" }]);
  });
});

test("a runtime broker in trouble, or one that does not know the agent now, is asked again after longer and longer, and the message is delivered", async () => {
  const asked: number[] = [];
  const troubles = [409, 500];
  const runtimeBroker = await scene.runtimeBroker(owner, {
    like: "unmodified",
    handle: (request) => {
      const status = request.path.endsWith("/message") && asked.length > 1 ? troubles.shift() : undefined;
      return status === undefined ? runtimeBroker.agents.handle(request) : { status };
    },
  });
  const agent = await scene.agent(owner, project, "a1");
  runtimeBroker.onRequest.on(({ path, requestId }) => {
    if (!path.endsWith("/message")) return;
    asked.push(systemClock.elapsed());
    if (asked.length === 1) runtimeBroker.sendFrame({ type: "response", requestId, statusCode: "no number" });
  });
  expect((await send(entry, agent, "in the end")).status).toBe(202);
  await eventually(async () => {
    expect(await scene.database.query("select state from messages")).toEqual([{ state: "delivered" }]);
  });
  const pauses = asked.slice(1).map((at, i) => at - (asked[i] ?? 0));
  expect(pauses).toHaveLength(3);
  for (const [i, pause] of pauses.entries()) expect(pause).toBeGreaterThan(450 * 2 ** i);
});

test("a message too large for an unmodified runtime broker fails before it is sent and does not cost the socket", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
  const agent = await scene.agent(owner, project, "a1");
  const large = await send(entry, agent, "x".repeat(60_000));
  expect(large.status).toBe(502);
  expect(large.text("error.message")).toContain("65536");
  expect((await send(entry, agent, "small")).status).toBe(200);
  expect(runtimeBroker.closes).toEqual([]);
});

test("invariant 3: a message in flight when the socket is lost is sent again with the same id", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  runtimeBroker.holdAnswers();
  const reply = send(entry, agent, "once, please");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  runtimeBroker.cut();
  runtimeBroker.releaseAnswers();
  expect([200, 202]).toContain((await reply).status);
  const sent = () => runtimeBroker.received.filter((r) => r.path.endsWith("/message"));
  await eventually(() => sent().length === 2);
  const ids = sent().map((r) => (r.json as { message_id: string }).message_id);
  expect(new Set(ids).size).toBe(1);
  expect(runtimeBroker.delivered).toHaveLength(1);
});

test("in a set each recipient gets its own result", async () => {
  await scene.runtimeBroker(owner);
  await scene.agent(owner, project, "a1");
  const stopped = await scene.agent(owner, project, "a2");
  await api(owner, "POST", `/api/v1/agents/${stopped}/stop`);
  const sent = await api(entry, "POST", `/api/v1/projects/${project}/agents/a1/message`, {
    structured_message: { msg: "all of you", recipient: "set[a1,agent:a2,nobody,user:dev@localhost]" },
  });
  expect(sent.status).toBe(200);
  expect(sent.list("results")).toMatchObject([
    { recipient: "a1", status: "delivered" },
    { recipient: "agent:a2", status: "failed" },
    { recipient: "nobody", status: "failed" },
    { recipient: "user:dev@localhost", status: "delivered" },
  ]);
});

test("a broadcast reaches every running agent, beyond a page", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agents = Array.from({ length: 60 }, (_, i) => `a${i}`);
  for (const name of agents) await scene.agent(owner, project, name);
  const sent = await api(entry, "POST", `/api/v1/projects/${project}/broadcast`, {
    structured_message: { msg: "hear, hear" },
  });
  expect(sent.json).toMatchObject({ total: 60, failed: 0 });
  await eventually(() => runtimeBroker.delivered.length === 60);
});
