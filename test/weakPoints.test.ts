import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import {
  api,
  eventually,
  type InProcessReplica,
  Scene,
  type SimulatedCredentials,
  type SimulatedRuntimeBroker,
  seed,
} from "@rootstock/testkit";

/** Weak points of the original (spec/01 section 8, spec/02 section 10) that must not come back, each by its name. */

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let project: string;
let credentials: SimulatedCredentials;
let runtimeBroker: SimulatedRuntimeBroker;

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  project = await scene.project(owner);
  credentials = await scene.join(owner, "laptop");
  runtimeBroker = await scene.connect(owner, credentials);
});
afterEach(() => scene.end());

const post = (path: string, body?: object) => api(entry, "POST", `/api/v1${path}`, body);
const send = (agent: string, message: object, more: object = {}) =>
  post(`/agents/${agent}/message`, { structured_message: message, ...more });
const structured = (at: number): object =>
  Object(Reflect.get(Object(runtimeBroker.delivered.at(at)?.body), "structured_message"));
const tokenOf = (slug: string): string => {
  const launch = runtimeBroker.received.find((r) => Reflect.get(Object(r.json), "slug") === slug);
  return String(Reflect.get(Object(launch?.json), "agentToken"));
};

test("a soft-deleted agent is hidden: nothing reaches it, nothing revives it, and its name is free", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const token = tokenOf("a1");
  expect((await api(entry, "DELETE", `/api/v1/agents/${agent}`)).status).toBe(204);
  const calls = runtimeBroker.received.length;
  for (const verb of ["start", "stop", "suspend", "resume", "restart", "exec", "reset-auth"]) {
    const reply = await post(`/agents/${agent}/${verb}`, { command: ["x"] });
    expect([verb, reply.status]).toEqual([verb, 404]);
  }
  expect((await send(agent, { msg: "hello" }, { queue: true })).status).toBe(404);
  expect((await api(entry, "GET", `/api/v1/agents/${agent}/logs`)).status).toBe(404);
  for (const path of ["status", "token/refresh", "outbound-message"]) {
    const headers = { authorization: "", [AGENT_TOKEN_HEADER]: token };
    const body = { phase: "running", activity: "working", msg: "hi" };
    const reply = await api(entry, "POST", `/api/v1/agents/${agent}/${path}`, body, { headers });
    expect([path, reply.status]).toEqual([path, 401]);
  }
  const listed = { projectId: project, agents: [{ slug: "a1", phase: "running", containerStatus: "Up 1 second" }] };
  expect((await runtimeBroker.heartbeat({ status: "online", projects: [listed] })).status).toBe(200);
  expect((await api(entry, "GET", `/api/v1/agents/${agent}`)).get("phase")).toBe("stopped");
  expect((await api(entry, "DELETE", `/api/v1/agents/${agent}`)).status).toBe(204);
  expect(runtimeBroker.received).toHaveLength(calls);

  const again = await post(`/projects/${project}/agents`, { name: "a1", task: "wait", resume: true });
  expect(again.status).toBe(201);
  expect(again.text("agent.id")).not.toBe(agent);
  expect((await post(`/agents/${agent}/restore`)).status).toBe(409);
});

test("what a message claims about its sender is not believed, and its structure arrives, also after a reconnect", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const message = {
    msg: "look",
    sender: "user:somebody-else",
    sender_id: "00000000-0000-4000-8000-000000000000",
    type: "mention",
    plain: true,
    urgent: true,
    attachments: ["/tmp/a.png"],
    channel: "chat",
    thread_id: "t-1",
    metadata: { from: "test" },
  };
  const { sender: _, sender_id: __, ...kept } = message;
  expect((await send(agent, message)).status).toBe(200);
  await runtimeBroker.stop();
  await eventually(async () => {
    const [row] = await scene.database.query("select connected_hub_id from runtime_brokers");
    return row?.connected_hub_id === null;
  });
  expect((await send(agent, message)).status).toBe(202);
  const before = structured(0);
  runtimeBroker = await scene.connect(entry, credentials);
  await eventually(() => runtimeBroker.delivered.length === 1);
  for (const delivered of [before, structured(0)]) {
    expect(delivered).toMatchObject(kept);
    expect(Reflect.get(delivered, "sender")).not.toBe(message.sender);
    expect(Reflect.get(delivered, "sender_id")).not.toBe(message.sender_id);
  }
  const items = (await api(entry, "GET", `/api/v1/agents/${agent}/messages`)).list("items");
  expect(items).toMatchObject(
    [kept, kept].map(({ msg, channel, thread_id }) => ({ msg, channel, threadId: thread_id })),
  );
});

test("what an agent writes to a person is not typed back into it when its runtime broker reconnects", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const headers = { authorization: "", [AGENT_TOKEN_HEADER]: tokenOf("a1") };
  const written = await api(
    entry,
    "POST",
    `/api/v1/agents/${agent}/outbound-message`,
    { msg: "a question" },
    { headers },
  );
  expect(written.status).toBe(200);
  const back = runtimeBroker.onSession.next();
  runtimeBroker.cut();
  await back;
  expect((await send(agent, { msg: "an answer" })).status).toBe(200);
  expect(runtimeBroker.delivered.map((_, i) => Reflect.get(structured(i), "msg"))).toEqual(["an answer"]);
});

test("a recipient whose name is ambiguous is refused, not guessed; an outbound message that cannot be stored is no success", async () => {
  await scene.database.query(
    `insert into users (id, email, display_name) values
       (gen_random_uuid(), 'one@example.org', 'Sam'), (gen_random_uuid(), 'two@example.org', 'Sam')`,
  );
  const agent = await scene.agent(owner, project, "a1");
  const headers = { authorization: "", [AGENT_TOKEN_HEADER]: tokenOf("a1") };
  const to = (recipient: string) =>
    api(entry, "POST", `/api/v1/agents/${agent}/outbound-message`, { msg: "hi", recipient }, { headers });
  expect([
    (await to("user:Sam")).status,
    (await to("user:nobody")).status,
    (await to("one@example.org")).status,
  ]).toEqual([400, 400, 200]);
  expect(await scene.database.query("select recipient from messages")).toHaveLength(1);
  // Everybody calls themselves what they like.
  const callTwo = (name: string) =>
    scene.database.query("update users set display_name = $1 where email = 'two@example.org'", [name]);
  await callTwo("One@example.org");
  expect((await to("user:one@example.org")).get("recipient")).toBe("user:one@example.org");
  await callTwo("new@example.org");
  expect((await to("new@example.org")).status).toBe(400);
});

test("a client that goes away cancels nothing", async () => {
  runtimeBroker.holdAnswers();
  const gone = new AbortController();
  const asked = api(
    entry,
    "POST",
    `/api/v1/projects/${project}/agents`,
    { name: "a1", task: "wait" },
    { signal: gone.signal },
  );
  await runtimeBroker.onRequest.next((r) => r.path === "/api/v1/agents");
  gone.abort();
  await expect(asked).rejects.toThrow();
  runtimeBroker.releaseAnswers();
  await eventually(async () => {
    const agent = await api(entry, "GET", `/api/v1/projects/${project}/agents/a1`);
    return agent.get("phase") === "running";
  });
  expect(await scene.database.query("select id from broker_dispatch where state <> 'done'")).toEqual([]);
});

test("one slow runtime broker delays nobody else's work", async () => {
  const slow = await scene.runtimeBroker(owner, { name: "slow" });
  const stuck = await scene.agent(owner, project, "stuck", slow.id);
  const agent = await scene.agent(owner, project, "a1", credentials.brokerId);
  slow.holdAnswers();
  const waiting = send(stuck, { msg: "into the void" });
  await slow.onRequest.next((r) => r.path.endsWith("/message"));
  for (let i = 0; i < 5; i += 1) expect((await send(agent, { msg: `m${i}` })).status).toBe(200);
  slow.releaseAnswers();
  expect([200, 202]).toContain((await waiting).status);
});

test("the activity of the run before is no readiness: a woken agent gets its message when it listens", async () => {
  const agent = await scene.agent(owner, project, "a1");
  await post(`/agents/${agent}/status`, { phase: "running", activity: "waiting_for_input" });
  expect((await post(`/agents/${agent}/suspend`)).get("phase")).toBe("suspended");
  expect((await api(entry, "GET", `/api/v1/agents/${agent}`)).get("activity")).toBeUndefined();
  const woken = await send(agent, { msg: "wake up" }, { wake: true });
  expect([woken.status, woken.get("agent_phase")]).toEqual([202, "running"]);
  expect(runtimeBroker.delivered).toEqual([]);
  await scene.ready(owner, agent);
  await eventually(() => runtimeBroker.delivered.length === 1);
});

test("a runtime broker's heartbeat is about its own agents, and nobody else reports for them", async () => {
  const agent = await scene.agent(owner, project, "a1", credentials.brokerId);
  const other = await scene.runtimeBroker(entry, { name: "other" });
  const listed = { projectId: project, agents: [{ slug: "a1", phase: "stopped", containerStatus: "Exited (1)" }] };
  const beat = await other.fetch("POST", `/api/v1/runtime-brokers/${credentials.brokerId}/heartbeat`, {
    projects: [listed],
  });
  expect(beat.status).toBe(403);
  expect((await other.heartbeat({ status: "online", projects: [listed] })).status).toBe(200);
  const direct = await other.fetch("POST", `/api/v1/agents/${agent}/status`, { phase: "stopped" });
  expect([403, 404]).toContain(direct.status);
  expect((await api(entry, "GET", `/api/v1/agents/${agent}`)).get("phase")).toBe("running");
});

test("beyond fifty agents a list leaves none out, with cursors or without", async () => {
  const rows = seed(scene.database);
  for (let i = 0; i < 120; i += 1) await rows.agent({ project_id: project, phase: "stopped" });
  const first = await api(entry, "GET", `/api/v1/projects/${project}/agents`);
  expect([first.list("agents").length, first.get("totalCount"), first.get("nextCursor")]).toEqual([
    120,
    120,
    undefined,
  ]);
  const seen = new Set<unknown>();
  let cursor = "";
  do {
    const page = await api(entry, "GET", `/api/v1/projects/${project}/agents?limit=50${cursor && `&cursor=${cursor}`}`);
    for (const agent of page.list("agents")) seen.add(Reflect.get(Object(agent), "id"));
    cursor = String(page.get("nextCursor") ?? "");
  } while (cursor !== "");
  expect(seen.size).toBe(120);
});
