import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import type { Trace } from "@rootstock/protocol";
import { systemRandom } from "@rootstock/service";
import {
  buryReplica,
  claimDispatches,
  claimMessages,
  completeDispatch,
  type EndedDispatch,
  failMessage,
  insertDispatch,
  insertEndedDispatch,
  insertPendingMessages,
  type NewMessage,
  registerReplica,
  releaseDispatch,
  releaseMessages,
  settleDelivered,
  voidOlderClaims,
  withdrawDispatch,
} from "@rootstock/store";
import type { Principal } from "../auth/index.ts";
import {
  ADMIN,
  agentPrincipal,
  listAt,
  makeAgent,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

/** Each row is moved by the statements that replicas use; what they leave behind is what the trace is told from. */

let hub: TestHub;
beforeAll(async () => {
  hub = await startTestHub();
});
afterAll(() => hub.stop());

const owner = member("owner");
const UNKNOWN = "0e0e0e0e-0000-4000-8000-00000000dead";

let project: string;
let runtimeBroker: string;
let agent: string;
let place: string;
beforeEach(async () => {
  place = `p${systemRandom.uuid().slice(0, 8)}`;
  project = await makeProject(hub, ADMIN, place);
  runtimeBroker = await makeRuntimeBroker(hub, place);
  agent = await makeAgent(hub, project, "a1", runtimeBroker, { owner: owner.id });
  await running();
});

const running = () =>
  hub.test.query("update agents set phase = 'running', running_since = now(), ready_at = now() where id = $1", [agent]);

const replica = async (name: string): Promise<string> => {
  const instanceId = systemRandom.uuid();
  const lockKey = systemRandom.bytes(6).readUIntBE(0, 6);
  const row = {
    instanceId,
    lockKey: BigInt(lockKey),
    name,
    internalUrl: null,
    version: "1",
    state: "serving" as const,
  };
  await registerReplica(hub.database.db, row);
  return instanceId;
};

/** A socket of the runtime broker at this replica. */
const connect = async (instanceId: string): Promise<string> => {
  const sessionId = systemRandom.uuid();
  await hub.test.query(
    `update runtime_brokers set connected_hub_id = $2, connected_session_id = $3, connected_at = now(),
       disconnected_at = null where id = $1`,
    [runtimeBroker, instanceId, sessionId],
  );
  return sessionId;
};

const disconnect = () =>
  hub.test.query(
    `update runtime_brokers set connected_hub_id = null, connected_session_id = null, connected_at = null,
       disconnected_at = '2026-01-02T03:04:05.678Z' where id = $1`,
    [runtimeBroker],
  );

const scope = (instanceId: string, sessionId: string) => ({
  instanceId,
  sockets: [{ runtimeBrokerId: runtimeBroker, sessionId, slots: 4 }],
  busyAgents: [],
});

const message = async (acceptedBy: string, more: Partial<NewMessage> = {}): Promise<string> => {
  const id = systemRandom.uuid();
  const row: NewMessage = {
    id,
    projectId: project,
    agentId: agent,
    runtimeBrokerId: runtimeBroker,
    sender: "user:x",
    senderId: null,
    recipient: "agent:a1",
    recipientId: agent,
    msg: "hello",
    type: "instruction",
    urgent: false,
    broadcasted: false,
    groupId: null,
    channel: null,
    threadId: null,
    envelope: {},
    interrupt: false,
    holdReason: null,
    createdBy: null,
    traceparent: null,
    ...more,
  };
  await insertPendingMessages(hub.database.db, { messages: [row], acceptedBy });
  return id;
};

const operation = async (acceptedBy: string, createdBy?: string): Promise<string> => {
  const id = systemRandom.uuid();
  await insertDispatch(hub.database.db, {
    id,
    runtimeBrokerId: runtimeBroker,
    agentId: agent,
    agentSlug: "a1",
    projectId: project,
    op: "stop",
    args: {},
    deadlineSeconds: 90,
    acceptedBy,
    ...(createdBy && { createdBy }),
  });
  return id;
};

const read = async (path: string, principal: Principal = ADMIN): Promise<Trace> => {
  const answer = await hub.as(principal).get(path);
  expect([path, answer.status]).toEqual([path, 200]);
  return answer.body as Trace;
};
const traced = (id: string) => read(`/api/v1/messages/${id}/trace`);
const events = (trace: Trace) => trace.hops.map((h) => h.event);

test("a message on its usual way: accepted by one replica, delivered by another, which is named after its death", async () => {
  const [a, b] = [await replica("A"), await replica("B")];
  const session = await connect(b);
  const id = await message(a, { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" });
  await claimMessages(hub.database.db, scope(b, session));
  const under = await traced(id);
  expect([under.state, events(under)]).toEqual(["delivering", ["accepted", "claimed"]]);
  expect(under.next.map((n) => n.event)).toEqual(["delivered", "given_back"]);
  expect(under.waiting).toBeUndefined();
  await settleDelivered(hub.database.db, { instanceId: b, deliveries: [{ id, sessionId: session }] });
  await buryReplica(hub.database.db, b);
  const by = { replica: { id: b, name: "B" }, runtimeBroker: { id: runtimeBroker, name: place }, session, attempt: 1 };
  expect(await traced(id)).toEqual({
    id,
    kind: "message",
    state: "delivered",
    projectId: project,
    agent: { id: agent, slug: "a1" },
    attempts: 1,
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    hops: [
      { event: "accepted", at: expect.any(String), replica: { id: a, name: "A" } },
      { event: "claimed", at: expect.any(String), waitedMs: expect.any(Number), ...by },
      { event: "delivered", at: expect.any(String), ...by },
    ],
    next: [],
  });
  expect(await hub.test.query("select 1 from trace_hops where subject_id = $1", [id])).toEqual([]);
});

test("its owner died in the middle: attempt 1 there, given back, attempt 2 at the next owner", async () => {
  const [a, b] = [await replica("A"), await replica("B")];
  const first = await connect(a);
  const id = await message(b, { holdReason: "the agent is starting" });
  await claimMessages(hub.database.db, scope(a, first));
  await buryReplica(hub.database.db, a);
  await disconnect();
  const waiting = await traced(id);
  expect(waiting.waiting).toEqual({
    since: waiting.hops.at(-1)?.at,
    reasons: [`owner unknown: waiting for reconnect of runtime broker ${place} since 2026-01-02T03:04:05.678Z`],
  });
  expect(waiting.next[0]).toEqual({
    event: "claimed",
    when: "once the runtime broker connects, to whichever replica",
  });
  const second = await connect(b);
  await claimMessages(hub.database.db, scope(b, second));
  await settleDelivered(hub.database.db, { instanceId: b, deliveries: [{ id, sessionId: second }] });
  const { hops, attempts } = await traced(id);
  expect(attempts).toBe(2);
  expect(hops).toMatchObject([
    { event: "accepted", replica: { name: "B" } },
    { event: "claimed", replica: { name: "A" }, session: first, attempt: 1, waitedFor: "the agent is starting" },
    { event: "given_back", replica: { name: "A" }, session: first, attempt: 1, reason: "its replica died" },
    { event: "claimed", replica: { name: "B" }, session: second, attempt: 2, waitedFor: "its replica died" },
    { event: "delivered", replica: { name: "B" }, session: second, attempt: 2 },
  ]);
});

test("its owner hangs: since when it is not heard of, and what will help", async () => {
  const a = await replica("A");
  await connect(a);
  const ids = [await message(a), await operation(a)];
  const traces = async () => [await traced(ids[0] ?? ""), await read(`/api/v1/dispatches/${ids[1]}`)];
  const reasons = async () => (await traces()).map((trace) => trace.waiting?.reasons[0]);
  await hub.test.query("update hub_replicas set last_seen = now() - interval '1 minute' where instance_id = $1", [a]);
  const [row] = await hub.test.query<{ at: Date }>("select last_seen as at from hub_replicas where instance_id = $1", [
    a,
  ]);
  const held = "replica A, which held the runtime broker's socket, has";
  const silent = `${held} not been heard of since ${row?.at.toISOString()}`;
  expect(await reasons()).toEqual([silent, silent]);
  const when = "once that replica is back, or the runtime broker has connected to another";
  for (const { next } of await traces()) expect(next[0]).toEqual({ event: "claimed", when });
  await hub.test.query("delete from hub_replicas where instance_id = $1", [a]);
  expect(await reasons()).toEqual([`${held} gone`, `${held} gone`]);
});

test("a newer socket voids the claim, and says so", async () => {
  const a = await replica("A");
  const first = await connect(a);
  const id = await message(a);
  await claimMessages(hub.database.db, scope(a, first));
  const second = await connect(a);
  await voidOlderClaims(hub.database.db, [{ runtimeBrokerId: runtimeBroker, sessionId: second }]);
  expect((await traced(id)).hops.at(-1)).toMatchObject({
    event: "given_back",
    session: first,
    reason: "its runtime broker connected anew before it had answered",
  });
});

test("what is refused over and over leaves one hop that counts", async () => {
  const a = await replica("A");
  const session = await connect(a);
  const id = await message(a);
  for (let i = 0; i < 5; i += 1) {
    await claimMessages(hub.database.db, scope(a, session));
    const deliveries = [{ id, sessionId: session }];
    await releaseMessages(hub.database.db, { instanceId: a, deliveries, reason: "the runtime broker answered 409" });
  }
  const trace = await traced(id);
  expect(trace.attempts).toBe(5);
  expect(trace.hops.slice(1)).toMatchObject([
    { event: "claimed", attempt: 1 },
    { event: "given_back", attempt: 1, reason: "the runtime broker answered 409", times: 5 },
  ]);
  expect(trace.waiting?.reasons).toEqual(["given back, and not taken again yet: the runtime broker answered 409"]);
  const last = Date.parse(trace.hops.at(-1)?.lastAt ?? "");
  expect(trace.next[0]).toMatchObject({ event: "claimed", at: new Date(last + 8_000).toISOString() });
});

test("what is acknowledged after it was given back is delivered by that attempt, and by no other", async () => {
  const a = await replica("A");
  const session = await connect(a);
  const id = await message(a);
  await claimMessages(hub.database.db, scope(a, session));
  const deliveries = [{ id, sessionId: session }];
  await releaseMessages(hub.database.db, { instanceId: a, deliveries, reason: "taken for dead" });
  expect((await traced(id)).waiting?.reasons).toEqual(["given back, and not taken again yet: taken for dead"]);
  await settleDelivered(hub.database.db, { instanceId: a, deliveries });
  const trace = await traced(id);
  expect(events(trace)).toEqual(["accepted", "claimed", "given_back", "delivered"]);
  expect(trace.hops.at(-1)).toMatchObject({ replica: { name: "A" }, session, attempt: 1 });
});

test("a failure says when, where and why", async () => {
  const a = await replica("A");
  const session = await connect(a);
  const refused = await message(a);
  await claimMessages(hub.database.db, scope(a, session));
  const delivery = { id: refused, sessionId: session };
  await failMessage(hub.database.db, { instanceId: a, delivery, error: "the runtime broker answered 400: no" });
  expect((await traced(refused)).hops.slice(1)).toMatchObject([
    { event: "claimed", replica: { name: "A" }, attempt: 1 },
    { event: "failed", replica: { name: "A" }, attempt: 1, reason: "the runtime broker answered 400: no" },
  ]);
  const orphaned = await message(a, { senderId: owner.id });
  await hub.test.query("delete from agents where id = $1", [agent]);
  const trace = await read(`/api/v1/messages/${orphaned}/trace`, owner);
  expect([trace.state, trace.next]).toEqual(["failed", []]);
  expect(trace.hops.at(-1)).toMatchObject({ event: "failed", reason: "the agent was deleted", at: expect.any(String) });
  expect((await hub.as(member("eve")).get(`/api/v1/messages/${orphaned}/trace`)).status).toBe(404);
});

test.each([
  ["stopped", ["agent not running (stopped): waits for its next start"]],
  ["suspended", ["agent not running (suspended): waits for its next start"]],
  ["error", ["agent not running (error): waits for its next start"]],
  ["starting", ["agent starting"]],
  ["provisioning", ["agent starting (provisioning)"]],
])("an agent in phase %s: the reason is told, and when it fails", async (phase, reasons) => {
  const a = await replica("A");
  await connect(a);
  const id = await message(a);
  await hub.test.query("update agents set phase = $2, running_since = null, ready_at = null where id = $1", [
    agent,
    phase,
  ]);
  const trace = await traced(id);
  expect(trace.waiting?.reasons).toEqual(reasons);
  const accepted = trace.hops[0]?.at ?? "";
  expect(trace.next).toEqual([
    { event: "claimed", when: "once the agent runs and has reported an activity" },
    {
      event: "failed",
      at: new Date(Date.parse(accepted) + 604_800_000).toISOString(),
      when: "if it is still waiting then",
    },
  ]);
});

test("an agent that runs and says nothing yet: until when is told", async () => {
  const a = await replica("A");
  await connect(a);
  const id = await message(a);
  await hub.test.query("update agents set ready_at = null where id = $1", [agent]);
  const [row] = await hub.test.query<{ at: Date }>(
    "select running_since + interval '15 seconds' as at from agents where id = $1",
    [agent],
  );
  const trace = await traced(id);
  expect(trace.waiting?.reasons).toEqual(["agent running, but it has reported no activity since its start"]);
  expect(trace.next[0]).toMatchObject({ event: "claimed", at: row?.at.toISOString() });
});

test("behind an operation and behind earlier messages; afterwards the claim remembers the latter", async () => {
  const a = await replica("A");
  const session = await connect(a);
  const [first, second] = [await message(a), await message(a)];
  const id = await message(a);
  const stop = await operation(a);
  expect((await traced(id)).waiting?.reasons).toEqual([
    `behind the operation stop (${stop}), which is pending`,
    "behind 2 earlier messages",
  ]);
  await withdrawDispatch(hub.database.db, stop, "changed my mind");
  expect((await traced(first)).waiting?.reasons).toEqual([
    "replica A, which holds the runtime broker's socket, has not taken it yet",
  ]);
  for (const sent of [first, second, id]) {
    await claimMessages(hub.database.db, scope(a, session));
    await settleDelivered(hub.database.db, { instanceId: a, deliveries: [{ id: sent, sessionId: session }] });
  }
  expect((await traced(id)).hops[1]).toMatchObject({ event: "claimed", waitedFor: "behind 2 earlier messages" });
  expect((await traced(first)).hops[1]).not.toHaveProperty("waitedFor");
});

test("a message to a person is in the inbox as soon as it is stored; only the two of them and an admin see its trace", async () => {
  const alice = member("alice");
  const id = systemRandom.uuid();
  await hub.test.query(
    `insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg)
     values ($1, $2, $3, 'agent:a1', $3, 'user:alice', $4, 'done')`,
    [id, project, agent, alice.id],
  );
  const path = `/api/v1/messages/${id}/trace`;
  const trace = await read(path, alice);
  expect([trace.state, events(trace), trace.next]).toEqual(["delivered", ["accepted", "delivered"], []]);
  expect((await hub.as(ADMIN).get(path)).status).toBe(200);
  expect((await hub.as(agentPrincipal(agent, project)).get(path)).status).toBe(200);
  for (const other of [owner, member("eve"), agentPrincipal(systemRandom.uuid(), project)])
    expect((await hub.as(other).get(path)).status).toBe(404);
});

test("an operation: what it waited for, an attempt that came to nothing, its end", async () => {
  const [a, b] = [await replica("A"), await replica("B")];
  await disconnect();
  const id = await operation(a);
  const traceOf = () => read(`/api/v1/dispatches/${id}`);
  const pending = await traceOf();
  expect(pending.waiting?.reasons).toEqual([
    `owner unknown: waiting for reconnect of runtime broker ${place} since 2026-01-02T03:04:05.678Z`,
  ]);
  expect(pending.next).toMatchObject([{ event: "claimed" }, { event: "expired", at: expect.any(String) }]);
  const first = await connect(b);
  await claimDispatches(hub.database.db, scope(b, first));
  expect((await traceOf()).next.map((n) => n.event)).toEqual(["done", "failed", "given_back"]);
  const lost = { id, claim: { instanceId: b, sessionId: first }, sent: true, reason: "connection lost" };
  await releaseDispatch(hub.database.db, lost);
  const second = await connect(a);
  await claimDispatches(hub.database.db, scope(a, second));
  await completeDispatch(hub.database.db, { id, claim: { instanceId: a, sessionId: second }, result: {} });
  const done = await traceOf();
  expect(done).toMatchObject({ kind: "dispatch", op: "stop", state: "done", attempts: 2, maxAttempts: 30, next: [] });
  expect(done.hops).toMatchObject([
    { event: "accepted", replica: { name: "A" } },
    {
      event: "claimed",
      replica: { name: "B" },
      attempt: 1,
      waitedFor: "owner unknown: waiting for reconnect since 2026-01-02T03:04:05.678Z",
    },
    { event: "given_back", replica: { name: "B" }, session: first, reason: "connection lost" },
    { event: "claimed", replica: { name: "A" }, session: second, attempt: 2, waitedFor: "connection lost" },
    { event: "done", replica: { name: "A" }, session: second, attempt: 2 },
  ]);
  expect(await read(`/api/v1/dispatches/${id}/trace`)).toEqual(done);
});

test("a call over the owner's own socket is recorded once when it is over, and not for a socket that has moved on", async () => {
  const a = await replica("A");
  const session = await connect(a);
  const ended = (id: string): EndedDispatch => ({
    dispatch: {
      id,
      runtimeBrokerId: runtimeBroker,
      agentId: agent,
      agentSlug: "a1",
      projectId: project,
      op: "start",
      args: {},
      acceptedBy: a,
    },
    claim: { instanceId: a, sessionId: session },
    state: "failed",
    error: "no such harness",
    result: {},
    tookMs: 1_500,
  });
  const id = systemRandom.uuid();
  expect(await insertEndedDispatch(hub.database.db, ended(id))).toBe(true);
  expect(await insertEndedDispatch(hub.database.db, ended(id))).toBe(true);
  const trace = await read(`/api/v1/dispatches/${id}`);
  const by = { replica: { name: "A" }, session, attempt: 1 };
  expect(trace).toMatchObject({ op: "start", state: "failed", attempts: 1, error: "no such harness" });
  expect(trace.hops).toMatchObject([
    { event: "accepted", replica: { name: "A" } },
    { event: "claimed", waitedMs: 0, ...by },
    { event: "failed", reason: "no such harness", ...by },
  ]);
  const [began, , over] = trace.hops.map((h) => Date.parse(h.at ?? ""));
  expect((over ?? 0) - (began ?? 0)).toBe(1_500);
  await connect(a);
  const late = systemRandom.uuid();
  expect(await insertEndedDispatch(hub.database.db, ended(late))).toBe(false);
  expect((await hub.as(ADMIN).get(`/api/v1/dispatches/${late}`)).status).toBe(404);
});

test("an operation behind another says so, and one that was withdrawn why", async () => {
  const a = await replica("A");
  await connect(a);
  const first = await operation(a);
  const id = await operation(a);
  expect((await read(`/api/v1/dispatches/${id}`)).waiting?.reasons).toEqual([
    `behind the operation stop (${first}), which is pending`,
  ]);
  await withdrawDispatch(hub.database.db, id, "nobody took it up in time");
  const trace = await read(`/api/v1/dispatches/${id}`);
  expect(trace.hops.at(-1)).toMatchObject({ event: "expired", reason: "nobody took it up in time" });
  expect([trace.state, trace.next]).toEqual(["expired", []]);
  const listed = await hub.as(owner).get(`/api/v1/agents/${agent}/dispatches`);
  expect(listAt(listed.body, "dispatches").map((d) => [textAt(d, "id"), textAt(d, "state")])).toEqual([
    [id, "expired"],
    [first, "pending"],
  ]);
});

test("traces are for whoever may see the agent, sent the message, or asked for the operation; to others they do not exist", async () => {
  const a = await replica("A");
  const [sender, asker, eve] = [member("sender"), member("asker"), member("eve")];
  const paths = {
    message: `/api/v1/messages/${await message(a, { senderId: sender.id })}/trace`,
    operation: `/api/v1/dispatches/${await operation(a, asker.id)}`,
    list: `/api/v1/agents/${agent}/dispatches`,
  };
  const statuses = async (principal: Principal) => {
    const caller = hub.as(principal);
    return [
      (await caller.get(paths.message)).status,
      (await caller.get(paths.operation)).status,
      (await caller.get(paths.list)).status,
    ];
  };
  expect(await statuses(ADMIN)).toEqual([200, 200, 200]);
  expect(await statuses(owner)).toEqual([200, 200, 200]);
  expect(await statuses(agentPrincipal(systemRandom.uuid(), project))).toEqual([200, 200, 200]);
  expect(await statuses(sender)).toEqual([200, 404, 404]);
  expect(await statuses(asker)).toEqual([404, 200, 404]);
  expect(await statuses(eve)).toEqual([404, 404, 404]);
  expect(await statuses(agentPrincipal(systemRandom.uuid(), UNKNOWN))).toEqual([404, 404, 404]);
  expect(await statuses({ kind: "runtimeBroker", id: runtimeBroker } as Principal)).toEqual([403, 403, 403]);
  expect(await statuses({ kind: "nobody" })).toEqual([401, 401, 401]);
  for (const path of [`/api/v1/messages/${UNKNOWN}/trace`, "/api/v1/messages/nonsense/trace", `/api/v1/dispatches/x`])
    expect((await hub.as(ADMIN).get(path)).status).toBe(404);
});
