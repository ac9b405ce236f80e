import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  ADMIN,
  agentPrincipal,
  at,
  listAt,
  makeAgent,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

let hub: TestHub;
let project: string;
let agent: string;
beforeAll(async () => {
  hub = await startTestHub();
  project = await makeProject(hub, ADMIN, "talk");
  agent = await makeAgent(hub, project, "a1", await makeRuntimeBroker(hub, "devbox"));
});
afterAll(() => hub.stop());

const alice = member("alice");
const UNKNOWN = "0e0e0e0e-0000-4000-8000-00000000dead";

interface Stored {
  readonly from?: string;
  readonly to?: string;
  readonly msg?: string;
  readonly type?: string;
  readonly state?: string | null;
  readonly agentId?: string;
}

/** Stores a message as the senders' code does; returns its id. */
const store = async (m: Stored): Promise<string> => {
  const id = systemRandom.uuid();
  const claim = m.state === "delivering" ? systemRandom.uuid() : null;
  await hub.test.query(
    `insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg, type, state,
       claimed_by, claim_session, channel, thread_id)
     values ($1, $2, $3, 'agent:a1', $4, 'user:x', $5, $6, $7, $8, $9, $9, 'chat', 't1')`,
    [
      id,
      project,
      m.agentId ?? agent,
      m.from ?? agent,
      m.to ?? alice.id,
      m.msg ?? "hello",
      m.type ?? "instruction",
      m.state ?? null,
      claim,
    ],
  );
  return id;
};

const ids = (body: unknown) => listAt(body, "items").map((m) => textAt(m, "id"));

test("an inbox message has the fields that clients read; the list is an envelope of items", async () => {
  const id = await store({ msg: "which colour?", type: "input-needed" });
  const listed = await hub.as(alice).get("/api/v1/messages?unread=true");
  expect(listed.body).toEqual({
    items: [
      {
        id,
        projectId: project,
        groveId: project,
        sender: "agent:a1",
        senderId: agent,
        recipient: "user:x",
        recipientId: alice.id,
        msg: "which colour?",
        type: "input-needed",
        read: false,
        agentId: agent,
        channel: "chat",
        threadId: "t1",
        createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
        dispatchState: "dispatched",
      },
    ],
    totalCount: 1,
    feedCursor: "cursor",
  });
  expect((await hub.as(alice).get(`/api/v1/messages/${id}`)).body).toEqual(at(listed.body, "items", 0));
});

test.each([
  ["pending", "pending"],
  ["delivering", "pending"],
  ["delivered", "dispatched"],
  ["failed", "failed"],
])("a message that is %s is told as %s", async (state, told) => {
  const id = await store({ state });
  expect(at((await hub.as(alice).get(`/api/v1/messages/${id}`)).body, "dispatchState")).toBe(told);
});

test("filters: project, type, unread, and the agent by id or by name", async () => {
  const bob = member("bob");
  const other = await makeAgent(hub, project, "other", await makeRuntimeBroker(hub, "box2"));
  const one = await store({ to: bob.id });
  const two = await store({ to: bob.id, type: "state-change", agentId: other });
  const of = async (query: string) => ids((await hub.as(bob).get(`/api/v1/messages?${query}`)).body).sort();
  expect(await of("")).toEqual([one, two].sort());
  expect(await of("type=state-change")).toEqual([two]);
  expect(await of(`agent=${other}`)).toEqual([two]);
  expect(await of("agent=Other")).toEqual([two]);
  expect(await of("agent=nobody")).toEqual([]);
  expect(await of(`project=${UNKNOWN}`)).toEqual([]);
  expect((await hub.as(bob).get("/api/v1/messages?project=talk")).status).toBe(400);
  expect((await hub.as(bob).send("POST", `/api/v1/messages/${one}/read`)).body).toEqual({ status: "ok" });
  expect(await of("unread=true")).toEqual([two]);
  expect((await hub.as(bob).send("POST", "/api/v1/messages/read-all")).body).toEqual({ status: "ok" });
  expect(await of("unread=true")).toEqual([]);
  expect(await of("")).toHaveLength(2);
});

test("messages are their recipient's: others are refused, unknown ones are 404, agents have none", async () => {
  const id = await store({});
  const eve = member("eve");
  for (const path of [`/api/v1/messages/${id}`]) expect((await hub.as(eve).get(path)).status).toBe(403);
  expect((await hub.as(eve).send("POST", `/api/v1/messages/${id}/read`)).status).toBe(403);
  expect((await hub.as(alice).get(`/api/v1/messages/${UNKNOWN}`)).status).toBe(404);
  expect((await hub.as(alice).get("/api/v1/messages/nonsense")).status).toBe(404);
  expect((await hub.as(agentPrincipal(agent, project)).get("/api/v1/messages")).status).toBe(403);
  expect(at((await hub.as(alice).get(`/api/v1/messages/${id}`)).body, "read")).toBe(false);
});

test("a conversation with an agent has both sides, the caller's only, and pages over cursors", async () => {
  const mine = [
    await store({ from: ADMIN.id, to: agent, state: "delivered" }),
    await store({ from: agent, to: ADMIN.id }),
    await store({ from: ADMIN.id, to: agent, state: "pending" }),
  ];
  await store({ from: agent, to: alice.id });
  const path = `/api/v1/agents/${agent}/messages`;
  const whole = await hub.as(ADMIN).get(path);
  expect(ids(whole.body).sort()).toEqual([...mine].sort());
  const first = await hub.as(ADMIN).get(`${path}?limit=2`);
  expect(at(first.body, "totalCount")).toBe(3);
  const cursor = textAt(first.body, "nextCursor");
  const second = await hub.as(ADMIN).get(`${path}?limit=2&cursor=${cursor}`);
  expect([...ids(first.body), ...ids(second.body)]).toEqual(ids(whole.body));
  const byId = await hub.as(ADMIN).get(`${path}?cursor=${ids(first.body)[1]}`);
  expect(ids(byId.body)).toEqual(ids(second.body));
  expect((await hub.as(ADMIN).get(`/api/v1/messages?cursor=${cursor}`)).status).toBe(400);
  expect((await hub.as(alice).get(path)).status).toBe(404);
});

test("there are no message channels, and saying so is no error", async () => {
  expect((await hub.as(alice).get("/api/v1/message-channels")).body).toEqual({ channels: [] });
});
