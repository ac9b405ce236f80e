import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import {
  ApiReply,
  api,
  eventually,
  joinRuntimeBroker,
  openEventStream,
  type Replica,
  Scene,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  TEST_TOKEN,
  testLogin,
} from "@rootstock/testkit";

/** Messages that the plugins of runtime brokers bring in from chats (spec/01 1.8, spec/05 14): from whom they are, and to whom they get. */

let scene: Scene;
let a: Replica;
let b: Replica;
let ann: string;
let annId: string;
let project: string;
let agent: string;
let elsewhere: string;
let credentials: SimulatedCredentials;
let runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
/** Serves nobody's project. */
let other: SimulatedRuntimeBroker;
/** The same machine, by way of the other replica. */
let throughB: SimulatedRuntimeBroker;

beforeAll(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" }), await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" })];
  const signedIn = await testLogin(a, { email: "ann@example.org", displayName: "boss" });
  [ann, annId] = [signedIn.text("accessToken"), signedIn.text("user.id")];
  const eve = (await testLogin(a, { email: "eve@example.org" })).text("accessToken");
  elsewhere = (await as(eve, "POST", "/projects", { name: "theirs" })).text("id");
  credentials = await scene.join(a, "laptop");
  runtimeBroker = await scene.connect(a, credentials);
  throughB = new SimulatedRuntimeBroker({ hubUrl: b.url, credentials });
  other = new SimulatedRuntimeBroker({
    hubUrl: a.url,
    credentials: await joinRuntimeBroker({ hubUrl: a.url, token: TEST_TOKEN, name: "elsewhere" }),
  });
  project = (await as(ann, "POST", "/projects", { name: "ours" })).text("id");
  agent = (await start("a1")).text("agent.id");
  await scene.ready(a, agent);
  await start("a2");
});
afterAll(() => scene.end());
beforeEach(() => scene.database.query("delete from messages"));

const as = (token: string, method: string, path: string, body?: unknown): Promise<ApiReply> =>
  api(a, method, `/api/v1${path}`, body, { token });
const start = (name: string) =>
  as(ann, "POST", `/projects/${project}/agents`, { name, task: "wait", runtimeBrokerId: runtimeBroker.id });

const topicOf = (slug: string, projectId = project) => `scion.project.${projectId}.agent.${slug}.messages`;

interface Sent {
  readonly message: object;
  readonly plugin?: string;
  readonly topic?: string;
  readonly key?: string;
  readonly by?: SimulatedRuntimeBroker;
}
const inbound = async ({
  message,
  plugin,
  topic = topicOf("a1"),
  key,
  by = runtimeBroker,
}: Sent): Promise<ApiReply> => {
  const body = { topic, message };
  const headers = { ...(plugin && { "x-scion-plugin-name": plugin }), ...(key && { "idempotency-key": key }) };
  const response = await by.fetch("POST", "/api/v1/broker/inbound", body, headers);
  return new ApiReply(response.status, response.headers, await response.text());
};
/** The headers of the agent's own calls. */
const asAgent = (): Readonly<Record<string, string>> => {
  const launched = runtimeBroker.received.find((r) => Reflect.get(Object(r.json), "slug") === "a1");
  return { [AGENT_TOKEN_HEADER]: String(Reflect.get(Object(launched?.json), "agentToken")) };
};
/** What the agent got last. */
const delivered = (): Readonly<Record<string, unknown>> =>
  Object(Reflect.get(Object(runtimeBroker.delivered.at(-1)?.body), "structured_message"));
const stored = () => scene.database.query("select * from messages order by seq");

const asPluginsSay = [
  // What the plugins of Scion send, before and after somebody has linked an account there.
  { plugin: "telegram", sender: "telegram:ann", id: "12345", shown: ["telegram:ann", "telegram:12345"] },
  {
    plugin: "telegram",
    sender: "user:ann@example.org",
    id: "12345",
    shown: ["telegram:user:ann@example.org", "telegram:12345"],
  },
  { plugin: "Discord", sender: "user:boss", id: "own", shown: ["discord:user:boss", "discord:the id of Ann"] },
  { plugin: "chat", sender: "agent:a2", id: "", shown: ["chat:agent:a2", undefined] },
  { plugin: "chat", sender: " CHAT: system ", id: "chat:7", shown: ["chat:system", "chat:7"] },
  { plugin: undefined, sender: "", id: undefined, shown: ["plugin:unknown", undefined] },
] as const;

test.each(asPluginsSay)(
  "spec/05 section 17, 6: a sender from outside is the plugin's own, never somebody of this hub: $plugin says $sender",
  async ({ plugin, sender, id, shown: [name, shownId] }) => {
    const given = id === "own" ? annId : id;
    const senderId = shownId?.replace("the id of Ann", annId);
    const stream = await openEventStream(b, { patterns: [`agent.${agent}.message`], headers: asAgent() });
    try {
      const message = { msg: "from a chat", sender, sender_id: given };
      expect((await inbound({ message, ...(plugin && { plugin }) })).json).toEqual({ delivered: true, agentId: agent });
      expect([delivered().sender, delivered().sender_id]).toEqual([name, senderId]);
      const [row] = await stored();
      expect(row).toMatchObject({ sender: name, sender_id: null, outside_sender_id: senderId ?? null });
      expect(row?.created_by).toBe(runtimeBroker.id);
      await eventually(() => JSON.stringify(stream.frames).includes("from a chat"));
      expect(stream.updates().map((frame) => frame.data)).toMatchObject([
        { data: { sender: name, senderId: senderId ?? "" } },
      ]);
      // Nobody here has said it: it is not between Ann and the agent, whatever the plugin says of her.
      expect((await as(ann, "GET", `/agents/${agent}/messages`)).list("items")).toEqual([]);
      const trace = await as(ann, "GET", `/messages/${row?.id}/trace`);
      expect(trace.get("hops.0")).toMatchObject({
        event: "accepted",
        runtimeBroker: { id: runtimeBroker.id, name: "laptop" },
        reason: `brought in by a plugin, from ${senderId ? `${name} (${senderId})` : name}`,
      });
    } finally {
      await stream.close();
    }
  },
);

test("spec/05 section 17, 6: nor is it anybody's in the other fields, and what only the hub decides is not taken over", async () => {
  const message = {
    msg: "to both",
    type: "group-set",
    sender: "user:boss",
    recipient: "user:boss",
    recipient_id: annId,
    recipients: "set[user:boss,agent:a1,agent:a2,user:boss]",
    metadata: { group_id: "of others", telegram_chat_id: "-100" },
    channel: "telegram",
    thread_id: "7",
    status: "system",
    observer_only: true,
    broadcasted: true,
    timestamp: "2001-01-01T00:00:00Z",
    urgent: true,
  };
  expect((await inbound({ message, plugin: "telegram" })).status).toBe(200);
  const { timestamp, ...rest } = delivered();
  expect(Date.parse(String(timestamp))).toBeGreaterThan(Date.parse("2020-01-01"));
  expect(rest).toEqual({
    version: 1,
    sender: "telegram:user:boss",
    recipient: "agent:a1",
    recipient_id: agent,
    recipients: "set[telegram:user:boss,agent:a1,agent:a2]",
    type: "group-set",
    metadata: { group_id: "telegram:of others", telegram_chat_id: "-100" },
    channel: "telegram",
    thread_id: "7",
    urgent: true,
    msg: "to both",
  });
  expect(await stored()).toMatchObject([{ group_id: "telegram:of others", broadcasted: false }]);
});

test("spec/05 section 17, 6: nor does somebody of this hub pass for another by the name that they give themselves", async () => {
  const eve = await testLogin(a, { email: "eve@example.org" });
  const [token, id] = [eve.text("accessToken"), eve.text("user.id")];
  const rename = (displayName: string) => as(token, "PATCH", `/users/${id}`, { displayName });
  for (const taken of ["boss", " BOSS ", "Ann@example.org"]) {
    const refused = await rename(taken);
    expect([taken, refused.status, refused.get("error.details")]).toEqual([taken, 409, { field: "displayName" }]);
  }
  const place = `/projects/${elsewhere}/agents`;
  const asked = { name: "hers", task: "wait", runtimeBrokerId: runtimeBroker.id };
  const hers = (await as(token, "POST", place, asked)).text("agent.id");
  await scene.ready(a, hers);
  const senderNow = async () => {
    expect((await as(token, "POST", `/agents/${hers}/message`, { message: "hello" })).status).toBe(200);
    return delivered().sender;
  };
  expect((await rename("Eve")).status).toBe(200);
  await eventually(async () => (await senderNow()) === "user:Eve");
  // As an identity provider may have it, which lets people choose.
  await scene.database.query("update users set display_name = 'ann@example.org' where id = $1", [id]);
  await eventually(async () => (await senderNow()) === "user:eve@example.org");
});

test("spec/05 section 17, 6: what is wrong with a message from outside is said by name, and nothing of it is kept", async () => {
  const refused: readonly (readonly [field: string, sent: Partial<Sent>])[] = [
    ...["user", "AGENT", "system", "scion", "a b", "x:y", "-x", "ü", "a".repeat(65)].map(
      (plugin) => ["X-Scion-Plugin-Name", { plugin }] as const,
    ),
    ...["ann\nsender: user:boss", "\u202enna", "x\u2066", "\u0000", "a".repeat(257)].flatMap((name) => [
      ["message.sender", { message: { msg: "x", sender: name } }] as const,
      ["message.sender_id", { message: { msg: "x", sender_id: name } }] as const,
    ]),
    // Typed as they are, they would not show from whom they are.
    ["message.plain", { message: { msg: "x", plain: true } }],
    ["message.raw", { message: { msg: "x", raw: true } }],
    // What the hub and agents say of themselves.
    ...["system", "state-change", "input-needed"].map(
      (type) => ["message.type", { message: { msg: "x", type } }] as const,
    ),
    ["message.msg", { message: { msg: "" } }],
    ["message.msg", { message: { msg: 7 } }],
    ["message.msg", { message: { msg: "a".repeat(65_537) } }],
    ["message.thread_id", { message: { msg: "x", thread_id: "7" } }],
    ["message.recipients", { message: { msg: "x", recipients: "set[\u202e]" } }],
    ["topic", { topic: "scion.project.x.agent.a1.messages" }],
    ["topic", { topic: topicOf("a1", `${project}/../${elsewhere}`) }],
    ["topic", { topic: "scion.global.broadcast" }],
    ["Idempotency-Key", { key: "a b" }],
  ];
  for (const [field, sent] of refused) {
    const reply = await inbound({ message: { msg: "x" }, plugin: "chat", ...sent });
    expect([sent, reply.status, reply.get("error.details.field")]).toEqual([sent, 400, field]);
  }
  for (const text of ["\ud800", "\udc00x"])
    expect((await inbound({ message: { msg: text, sender: text, metadata: { text } } })).status).toBeLessThan(500);
  expect((await stored()).filter((row) => row.msg === "x")).toEqual([]);
});

test("spec/05 section 17, 6: a plugin reaches agents of projects that its runtime broker serves, and nobody else's", async () => {
  const message = { msg: "hello" };
  expect((await inbound({ message, by: other })).status).toBe(404);
  expect((await other.fetch("GET", "/api/v1/broker/projects")).status).toBe(200);
  expect(await (await other.fetch("GET", "/api/v1/broker/projects")).json()).toEqual({ projects: [] });
  for (const topic of [topicOf("a1", elsewhere), topicOf("nobody"), topicOf("a1", annId)])
    expect([topic, (await inbound({ message, topic })).status]).toEqual([topic, 404]);
  // In the name of another machine, which only its key proves.
  const forged = { "x-scion-broker-id": credentials.brokerId };
  const tried = await other.fetch("POST", "/api/v1/broker/inbound", { topic: topicOf("a1"), message }, forged);
  expect(tried.status).toBe(401);
  for (const token of [ann, TEST_TOKEN])
    expect((await as(token, "POST", "/broker/inbound", { topic: topicOf("a1"), message })).status).toBe(401);
  const headers = { authorization: "", ...asAgent() };
  const byAgent = await api(a, "POST", "/api/v1/broker/inbound", { topic: topicOf("a1"), message }, { headers });
  expect(byAgent.status).toBe(401);
  await scene.database.query("delete from project_providers where project_id = $1", [project]);
  try {
    expect((await inbound({ message })).status).toBe(404);
  } finally {
    await scene.database.query("insert into project_providers (project_id, runtime_broker_id) values ($1, $2)", [
      project,
      runtimeBroker.id,
    ]);
  }
  expect(await stored()).toEqual([]);
});

test("spec/05 section 17, 6: a message of the chat that comes again is one, at every replica, and keeps its answer", async () => {
  const before = runtimeBroker.delivered.length;
  const message = {
    msg: "once",
    sender: "telegram:ann",
    metadata: { telegram_chat_id: "1", telegram_message_id: "9" },
  };
  const sent = { message, plugin: "telegram" };
  const replies = await Promise.all([inbound(sent), inbound({ ...sent, by: throughB }), inbound(sent)]);
  for (const reply of [...replies, await inbound({ ...sent, by: throughB })])
    expect([reply.status, reply.json]).toEqual([200, { delivered: true, agentId: agent }]);
  expect(await stored()).toHaveLength(1);
  expect(runtimeBroker.delivered).toHaveLength(before + 1);
  // Edited since, of another chat, or by another plugin: another message.
  for (const more of [
    { message: { ...message, msg: "once, edited" } },
    { message: { ...message, metadata: { telegram_chat_id: "2", telegram_message_id: "9" } } },
    { plugin: "discord" },
  ])
    expect((await inbound({ ...sent, ...more })).status).toBe(200);
  expect(await stored()).toHaveLength(4);
  // Without an id of its own it may be said twice, also in answer to one that has an id.
  const anonymous = { message: { msg: "ok", metadata: { reply_to_message_id: "9" } }, plugin: "chat" };
  for (let i = 0; i < 2; i += 1) expect((await inbound(anonymous)).status).toBe(200);
  const keyed = { ...anonymous, key: "chat-1" };
  for (const by of [runtimeBroker, throughB]) expect((await inbound({ ...keyed, by })).status).toBe(200);
  expect(await stored()).toHaveLength(7);
  const reused = await inbound({ ...keyed, message: { msg: "something else" } });
  expect(reused.get("error.code")).toBe("idempotency_key_reused");
});

test("spec/05 section 17, 6: what was accepted for later is kept, and told so with the same empty answer again", async () => {
  const message = { msg: "later", metadata: { discord_message_id: "1" } };
  const sent = { message, plugin: "discord", topic: topicOf("a2") };
  await scene.database.query("update agents set ready_at = null, running_since = now() where slug = 'a2'");
  const replies = [await inbound(sent), await inbound({ ...sent, by: throughB })];
  expect(replies.map((reply) => [reply.status, reply.body])).toEqual([
    [202, ""],
    [202, ""],
  ]);
  expect(await stored()).toMatchObject([{ msg: "later", state: "pending", sender: "discord:unknown" }]);
  const keyed = { message: { msg: "later" }, plugin: "chat", topic: topicOf("a2"), key: "for-later" };
  for (const by of [runtimeBroker, throughB]) {
    const reply = await inbound({ ...keyed, by });
    expect([reply.status, reply.body]).toEqual([202, ""]);
  }
  await scene.database.query("update agents set ready_at = now() where slug = 'a2'");
  await eventually(async () => (await stored()).every((row) => row.state === "delivered"));
  expect(delivered().msg).toBe("later");
});
