import { request } from "node:http";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, eventually, type InProcessReplica, Scene, type SimulatedReply, TEST_TOKEN } from "@rootstock/testkit";

/** Lifecycle calls between two replicas: the runtime broker hangs on `owner`, calls reach either. */

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

const create = (replica: InProcessReplica, body: object) =>
  api(replica, "POST", `/api/v1/projects/${project}/agents`, body);
const act = (replica: InProcessReplica, agent: string, verb: string) =>
  api(replica, "POST", `/api/v1/agents/${agent}/${verb}`);
const phaseOf = async (agent: string) => (await api(entry, "GET", `/api/v1/agents/${agent}`)).get("phase");

test.each(["owner", "entry"] as const)("the whole life of an agent through the %s", async (where) => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const replica = where === "owner" ? owner : entry;
  const made = await create(replica, { name: "My Agent", task: "wait" });
  expect(made.status).toBe(201);
  expect(made.json).toMatchObject({ agent: { slug: "my-agent", name: "my-agent", phase: "running" } });
  const agent = made.text("agent.id");
  for (const [verb, phase] of [
    ["suspend", "suspended"],
    ["start", "running"],
    ["stop", "stopped"],
    ["start", "running"],
    ["restart", "running"],
  ] as const) {
    const reply = await act(replica, agent, verb);
    expect([verb, reply.status, reply.get("phase")]).toEqual([verb, 200, phase]);
  }
  expect((await api(replica, "DELETE", `/api/v1/agents/${agent}`)).status).toBe(204);
  expect((await api(replica, "DELETE", `/api/v1/agents/${agent}`)).status).toBe(204);
  const listed = await api(replica, "GET", `/api/v1/projects/${project}/agents`);
  expect(listed.list("agents")).toEqual([]);
  const restored = await act(replica, agent, "restore");
  expect(restored.json).toMatchObject({ phase: "stopped", deletedAt: "0001-01-01T00:00:00Z" });
  const starts = runtimeBroker.received.filter((r) => r.path.endsWith("/start"));
  expect(starts.map((r) => (r.json as { resume?: boolean }).resume)).toEqual([true, undefined, undefined]);
});

/** Has what `deletes` says happen at the last moment before a row is written. */
const atTheLastMoment = async (table: string, deletes: string) => {
  await scene.database.query(
    `create function last_moment() returns trigger language plpgsql as $$ begin ${deletes}; return new; end $$`,
  );
  await scene.database.query(
    `create trigger last_moment before insert on ${table} for each row execute function last_moment()`,
  );
};

test.each(["owner", "entry"] as const)(
  "an agent deleted while its stop is written down through the %s is not found",
  async (where) => {
    await scene.runtimeBroker(owner);
    const agent = await scene.agent(owner, project, "a1");
    await atTheLastMoment("broker_dispatch", "delete from agents where id = new.agent_id");
    const replica = where === "owner" ? owner : entry;
    const stopped = await act(replica, agent, "stop");
    expect([stopped.status, stopped.get("error.code")]).toEqual([404, "not_found"]);
    const all = await api(replica, "POST", `/api/v1/projects/${project}/agents/stop-all`);
    expect([all.status, all.get("failed")]).toEqual([200, 1]);
  },
);

test("an agent that is created while its project is deleted has none", async () => {
  await scene.runtimeBroker(owner);
  await atTheLastMoment("agents", "delete from projects where id = new.project_id");
  const made = await create(owner, { name: "late", task: "wait" });
  expect([made.status, made.get("error.code")]).toEqual([404, "not_found"]);
});

test("a call over the owner's own socket leaves a row that is done, as a forwarded one does", async () => {
  await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  await act(owner, agent, "stop");
  await act(owner, agent, "start");
  await act(entry, agent, "restart");
  const rows = await scene.database.query("select op, state, attempts, claimed_by from broker_dispatch order by seq");
  const ended = { state: "done", attempts: 1, claimed_by: owner.hub.instanceId };
  expect(rows).toMatchObject([
    { op: "create", ...ended },
    { op: "stop", ...ended },
    { op: "start", ...ended },
    { op: "restart", ...ended },
  ]);
});

const requestsFor = (machine: { readonly received: readonly { readonly path: string }[] }, end: string) =>
  machine.received.filter((r) => r.path.endsWith(end)).length;

test("an agent that is taken up is started where it is, whichever runtime broker is asked for", async () => {
  const [home, other] = [await scene.runtimeBroker(owner), await scene.runtimeBroker(entry)];
  const agent = await scene.agent(owner, project, "a1", home.id);
  await act(owner, agent, "stop");
  const again = await create(entry, { name: "a1", resume: true, runtimeBrokerId: other.id });
  expect([again.status, again.get("agent.runtimeBrokerId")]).toEqual([200, home.id]);
  expect([requestsFor(home, "/start"), requestsFor(other, "/start")]).toEqual([1, 0]);
});

test("an agent whose runtime broker is gone is started on another, and gets what waited for it", async () => {
  const [home, other] = [await scene.runtimeBroker(owner), await scene.runtimeBroker(entry)];
  const agent = await scene.agent(owner, project, "a1", home.id);
  await act(owner, agent, "stop");
  await scene.database.query(
    `insert into messages (id, project_id, agent_id, runtime_broker_id, sender, recipient, msg, state)
     select gen_random_uuid(), project_id, id, runtime_broker_id, 'user:x', 'agent:a1', 'waited', 'pending' from agents`,
  );
  expect((await api(owner, "DELETE", `/api/v1/runtime-brokers/${home.id}`)).status).toBe(204);
  const again = await create(owner, { name: "a1", resume: true, runtimeBrokerId: other.id });
  expect([again.status, again.get("agent.runtimeBrokerId")]).toEqual([200, other.id]);
  await scene.ready(owner, agent);
  await eventually(() => other.delivered.length === 1);
  expect((await act(owner, agent, "stop")).status).toBe(200);
  expect(requestsFor(other, "/stop")).toBe(1);
});

test("values that are missing are asked for, kept encrypted, and there again at the next start", async () => {
  let asked = 0;
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: (request): SimulatedReply | Promise<SimulatedReply> => {
      if (request.method === "POST" && request.path === "/api/v1/agents") {
        asked += 1;
        const body = {
          agentId: "x",
          required: ["API_KEY"],
          hubHas: null,
          brokerHas: null,
          needs: ["API_KEY"],
          secretInfo: { API_KEY: { source: "auth" } },
        };
        return { status: 202, body };
      }
      if (request.path.endsWith("/finalize-env")) return { status: 201, body: { agent: { phase: "running" } } };
      return runtimeBroker.agents.handle(request);
    },
  });
  const made = await create(entry, { name: "a1", task: "wait", gatherEnv: true });
  expect(made.status).toBe(202);
  expect(made.json).toMatchObject({ agent: { phase: "provisioning" }, envGather: { needs: ["API_KEY"] } });
  const agent = made.text("agent.id");
  const finished = await api(entry, "POST", `/api/v1/projects/${project}/agents/${agent}/env`, {
    env: { API_KEY: "s3cret-value" },
  });
  expect(finished.json).toMatchObject({ agent: { phase: "running" } });
  expect(asked).toBe(1);
  const finalize = runtimeBroker.received.find((r) => r.path.endsWith("/finalize-env"));
  expect(finalize?.json).toEqual({ env: { API_KEY: "s3cret-value" } });
  await act(entry, agent, "stop");
  await act(entry, agent, "start");
  const start = runtimeBroker.received.find((r) => r.path.endsWith("/start"));
  expect(start?.json).toMatchObject({ resolvedEnv: { API_KEY: "s3cret-value", SCION_AGENT_ID: agent } });
  const stored = await scene.database.query<{ text: string }>(
    `select string_agg(t::text, ' ') as text from (
       select d::text t from broker_dispatch d union all select a::text from agents a
       union all select encode(value, 'escape') from agent_kept_values
       union all select c::text from change_log c) as everything`,
  );
  expect(stored[0]?.text).not.toContain("s3cret-value");
});

test("where the hub is, containers are told by its configuration, never by the Host of a call", async () => {
  const told = await scene.replica({ ROOTSTOCK_PUBLIC_URL: "https://hub.example.org" });
  const runtimeBroker = await scene.runtimeBroker(owner);
  const lying = (replica: InProcessReplica, path: string, body: object) =>
    new Promise<number>((resolve, reject) => {
      const { hostname, port } = new URL(replica.url);
      const headers = {
        host: "evil.example",
        "x-forwarded-host": "evil.example",
        authorization: `Bearer ${TEST_TOKEN}`,
        "content-type": "application/json",
      };
      request({ hostname, port, path, method: "POST", headers }, (answer) => {
        answer.resume().once("end", () => resolve(answer.statusCode ?? 0));
      })
        .once("error", reject)
        .end(JSON.stringify(body));
    });
  const agents = `/api/v1/projects/${project}/agents`;
  for (const replica of [owner, entry, told]) {
    const name = `a-${replica.hub.instanceId.slice(0, 4)}`;
    expect(await lying(replica, agents, { name, task: "wait" })).toBe(201);
    for (const verb of ["restart", "stop", "start"])
      expect([verb, await lying(replica, `${agents}/${name}/${verb}`, {})]).toEqual([verb, 200]);
  }
  const sent = JSON.stringify(runtimeBroker.received.map((r) => r.json));
  expect(sent).not.toContain("evil.example");
  expect(sent).toContain('"hubEndpoint":"https://hub.example.org"');
});

test("values missing and nobody to ask: 422 that names them, and no agent is left", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: (request) =>
      request.method === "POST" && request.path === "/api/v1/agents"
        ? { status: 202, body: { required: ["API_KEY"], needs: ["API_KEY"] } }
        : runtimeBroker.agents.handle(request),
  });
  for (const replica of [owner, entry]) {
    const refused = await create(replica, { name: "a1", task: "wait" });
    expect(refused.status).toBe(422);
    expect(refused.json).toMatchObject({ error: { code: "missing_env_vars", details: { missingKeys: ["API_KEY"] } } });
  }
  expect(await scene.database.query("select id from agents")).toEqual([]);
  expect(runtimeBroker.received.filter((r) => r.method === "DELETE")).toHaveLength(2);
});

test("a create that the runtime broker fails leaves no agent, and its words reach the caller", async () => {
  await scene.runtimeBroker(owner, {
    handle: () => ({ status: 500, body: { error: { code: "runtime_error", message: "no such image" } } }),
  });
  for (const replica of [owner, entry]) {
    const failed = await create(replica, { name: "a1" });
    expect(failed.status).toBe(502);
    expect(failed.text("error.message")).toContain("no such image");
  }
  expect(await scene.database.query("select id from agents")).toEqual([]);
});

test("a start that fails leaves the agent where it was, with the reason", async () => {
  let broken = false;
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: (request) =>
      broken ? { status: 500, body: { error: { message: "no room" } } } : runtimeBroker.agents.handle(request),
  });
  const agent = await scene.agent(owner, project, "a1");
  await act(owner, agent, "stop");
  broken = true;
  expect((await act(entry, agent, "start")).status).toBe(502);
  const now = await api(entry, "GET", `/api/v1/agents/${agent}`);
  expect(now.json).toMatchObject({ phase: "stopped" });
  expect(now.text("message")).toContain("no room");
});

test.each(["owner", "entry"] as const)(
  "a stop through the %s that fails leaves the agent running, with the reason",
  async (where) => {
    const runtimeBroker = await scene.runtimeBroker(owner, {
      handle: (request) =>
        request.path.endsWith("/stop")
          ? { status: 500, body: { error: { message: "the container is stuck" } } }
          : runtimeBroker.agents.handle(request),
    });
    const agent = await scene.agent(owner, project, "a1");
    expect((await act(where === "owner" ? owner : entry, agent, "stop")).status).toBe(502);
    const now = await api(entry, "GET", `/api/v1/agents/${agent}`);
    expect(now.json).toMatchObject({ phase: "running" });
    expect(now.text("message")).toMatch(/^stop failed: .*the container is stuck/);
  },
);

test("invariant 1: what was withdrawn never runs, and only then is an error answered", async () => {
  const credentials = await scene.join(owner, "laptop");
  const runtimeBroker = await scene.connect(owner, credentials);
  const agent = await scene.agent(owner, project, "a1");
  await runtimeBroker.stop();
  await eventually(async () => {
    const rows = await scene.database.query("select 1 from runtime_brokers where connected_hub_id is null");
    return rows.length === 1;
  });
  const stop = act(entry, agent, "stop");
  await eventually(
    async () => (await scene.database.query("select id from broker_dispatch where state = 'pending'")).length === 1,
  );
  await scene.database.query(
    "update broker_dispatch set state = 'expired', error = 'the deadline passed' where state = 'pending'",
  );
  const answer = await stop;
  expect(answer.status).toBe(503);
  const again = await scene.connect(entry, credentials);
  await eventually(async () => (await act(entry, agent, "stop")).status === 200);
  expect(again.received.filter((r) => r.path.endsWith("/stop"))).toHaveLength(1);
  expect(await phaseOf(agent)).toBe("stopped");
});

test("within the grace a lifecycle call waits for the runtime broker's return", async () => {
  const credentials = await scene.join(owner, "laptop");
  const runtimeBroker = await scene.connect(owner, credentials);
  const agent = await scene.agent(owner, project, "a1");
  await runtimeBroker.stop();
  await eventually(async () => {
    const rows = await scene.database.query("select 1 from runtime_brokers where connected_hub_id is null");
    return rows.length === 1;
  });
  const stop = act(owner, agent, "stop");
  await eventually(
    async () => (await scene.database.query("select id from broker_dispatch where state = 'pending'")).length === 1,
  );
  await scene.connect(entry, credentials);
  expect(await stop).toMatchObject({ status: 200 });
  expect(await phaseOf(agent)).toBe("stopped");
});

test("a local call whose socket is lost in the middle becomes an intent that asks before it repeats", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  await act(owner, agent, "stop");
  runtimeBroker.holdAnswers();
  const start = act(owner, agent, "start");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/start"));
  runtimeBroker.cut();
  runtimeBroker.releaseAnswers();
  const answer = await start;
  expect([answer.status, answer.get("phase")]).toEqual([200, "running"]);
  expect(runtimeBroker.received.filter((r) => r.path.endsWith("/start"))).toHaveLength(1);
  expect(runtimeBroker.received.some((r) => r.method === "GET" && r.path === "/api/v1/agents/a1")).toBe(true);
});

test("what waits behind a delete is over with the agent, and its caller hears so", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  runtimeBroker.holdAnswers();
  const deleting = api(entry, "DELETE", `/api/v1/agents/${agent}?force=true`);
  await runtimeBroker.onRequest.next((r) => r.method === "DELETE");
  const starting = [act(owner, agent, "start"), act(entry, agent, "start")];
  await eventually(async () => {
    expect(await scene.database.query("select 1 from broker_dispatch where state = 'pending'")).toHaveLength(2);
  });
  runtimeBroker.releaseAnswers();
  expect((await deleting).status).toBe(204);
  for (const reply of await Promise.all(starting))
    expect([reply.status, reply.get("error.message")]).toEqual([404, "agent not found: it was deleted meanwhile"]);
});

test("what waits for a runtime broker's return is over with the agent's project, and its caller hears so", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  await runtimeBroker.stop();
  await eventually(async () => {
    expect(await scene.database.query("select 1 from runtime_brokers where connected_hub_id is null")).toHaveLength(1);
  });
  const stopping = act(entry, agent, "stop");
  await eventually(async () => {
    expect(await scene.database.query("select 1 from broker_dispatch where state = 'pending'")).toHaveLength(1);
  });
  expect((await api(owner, "DELETE", `/api/v1/projects/${project}`)).status).toBe(204);
  expect((await stopping).status).toBe(404);
});

test("invariant 2: twenty forwarded stops of one agent run one at a time", async () => {
  let atOnce = 0;
  let most = 0;
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: async (request) => {
      if (!request.path.endsWith("/stop")) return runtimeBroker.agents.handle(request);
      atOnce += 1;
      most = Math.max(most, atOnce);
      await new Promise((resolve) => setImmediate(resolve));
      atOnce -= 1;
      return runtimeBroker.agents.handle(request);
    },
  });
  const agent = await scene.agent(owner, project, "a1");
  const replies = await Promise.all(Array.from({ length: 20 }, (_, i) => act(i % 2 ? owner : entry, agent, "stop")));
  expect(replies.map((r) => r.status)).toEqual(Array(20).fill(200));
  expect(most).toBe(1);
});

test("a stop from another replica is taken up while a message is on the wire, and runs when that has ended", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  runtimeBroker.holdAnswers();
  const message = api(owner, "POST", `/api/v1/agents/${agent}/message`, { message: "hello" });
  await eventually(() => runtimeBroker.received.some((r) => r.path.endsWith("/message")));
  const stop = act(entry, agent, "stop");
  await eventually(async () => {
    const [row] = await scene.database.query("select state from broker_dispatch where op = 'stop'");
    return row?.state === "in_progress";
  });
  expect(runtimeBroker.received.some((r) => r.path.endsWith("/stop"))).toBe(false);
  runtimeBroker.releaseAnswers();
  expect((await message).status).toBe(200);
  expect((await stop).json).toMatchObject({ phase: "stopped" });
});

test("stop-all stops every running agent, beyond a page", async () => {
  await scene.runtimeBroker(owner);
  for (let i = 0; i < 55; i += 1) await create(owner, { name: `a${i}` });
  const reply = await api(entry, "POST", `/api/v1/projects/${project}/agents/stop-all`);
  expect(reply.json).toMatchObject({ stopped: 55, failed: 0, total: 55, scope: "all" });
});

test("without a runtime broker the choice is offered as the command line expects it", async () => {
  const refused = await create(entry, { name: "a1" });
  expect(refused.status).toBe(422);
  expect(refused.json).toMatchObject({ error: { code: "no_runtime_broker", details: { availableBrokers: [] } } });
});

test("a runtime broker that is asked for and will not come is 422 with the choice that is left; one that is away, 503", async () => {
  await scene.runtimeBroker(owner, { name: "there" });
  const never = (await api(owner, "POST", "/api/v1/brokers", { name: "never" })).text("brokerId");
  const [offered] = (await create(entry, { name: "a1", runtimeBrokerId: "nowhere" })).list(
    "error.details.availableBrokers",
  );
  expect(offered).toMatchObject({ name: "there" });
  const answers = async () => {
    const asked = ["nowhere", "00000000-0000-4000-8000-000000000000", "never", never];
    const replies = await Promise.all(asked.map((runtimeBrokerId) => create(entry, { name: "a1", runtimeBrokerId })));
    return replies.map((reply) => [reply.status, reply.get("error.code"), reply.headers.has("retry-after")]);
  };
  expect(await answers()).toEqual(Array.from({ length: 4 }, () => [422, "unprocessable", false]));
  await scene.database.query("update runtime_brokers set disconnected_at = now() - interval '1 hour' where id = $1", [
    never,
  ]);
  const away = [503, "runtime_broker_unavailable", true];
  expect((await answers()).slice(2)).toEqual([away, away]);
});

test("what nothing can be done about an agent that has no runtime broker is 422, whoever is asked", async () => {
  await scene.runtimeBroker(owner);
  const agent = (await create(owner, { name: "a1" })).text("agent.id");
  await scene.database.query("update agents set runtime_broker_id = null, ready_at = now() where id = $1", [agent]);
  const asked = [
    ["POST", "start"],
    ["POST", "restart"],
    ["POST", "message", { structured_message: { msg: "hello" } }],
    ["POST", "exec", { command: ["true"] }],
    ["GET", "logs"],
    ["GET", "logs?follow=true"],
    ["GET", "pty"],
  ] as const;
  for (const [method, what, body] of asked)
    for (const replica of [owner, entry]) {
      const reply = await api(replica, method, `/api/v1/agents/${agent}/${what}`, body);
      expect([what, reply.status, reply.get("error.code")]).toEqual([what, 422, "no_runtime_broker"]);
    }
  expect((await act(entry, agent, "stop")).status).toBe(200);
});

test("a taken name is refused, a soft-deleted agent's name is free", async () => {
  await scene.runtimeBroker(owner);
  const first = (await create(owner, { name: "a1" })).text("agent.id");
  const taken = await create(entry, { name: "a1" });
  expect([taken.status, taken.get("error.code")]).toEqual([409, "conflict"]);
  await api(owner, "DELETE", `/api/v1/agents/${first}`);
  expect((await create(entry, { name: "a1" })).status).toBe(201);
  const restore = await act(owner, first, "restore");
  expect([restore.status, restore.get("error.code")]).toEqual([409, "conflict"]);
});

test("two creates of one name at once: one agent, one refusal", async () => {
  const runtimeBroker = await scene.runtimeBroker(owner);
  const replies = await Promise.all([create(owner, { name: "a1" }), create(entry, { name: "a1" })]);
  expect(replies.map((r) => r.status).sort()).toEqual([201, 409]);
  expect(runtimeBroker.received.filter((r) => r.method === "POST" && r.path === "/api/v1/agents")).toHaveLength(1);
});

test("logs and exec work through either replica", async () => {
  await scene.runtimeBroker(owner);
  await scene.agent(owner, project, "a1");
  for (const replica of [owner, entry]) {
    const logs = await api(replica, "GET", `/api/v1/projects/${project}/agents/a1/logs?tail=5`);
    expect(logs.json).toEqual({ logs: "a line of the log\n" });
    const exec = await api(replica, "POST", `/api/v1/projects/${project}/agents/a1/exec`, { command: ["true"] });
    expect(exec.json).toEqual({ output: "", exitCode: 0 });
  }
});
