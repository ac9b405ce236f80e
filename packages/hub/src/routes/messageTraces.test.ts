import { expect, test } from "@jest/globals";
import {
  buryReplica,
  claimMessages,
  failMessage,
  releaseMessages,
  settleDelivered,
  voidOlderClaims,
  withdrawDispatch,
} from "@rootstock/store";
import { member } from "./routes.testing.ts";
import { events, OWNER, TraceStage } from "./traces.testing.ts";

/** Where a message has been, why it waits, and what comes next. */

const s = new TraceStage();

test("a message on its usual way: accepted by one replica, delivered by another, which is named after its death", async () => {
  const [a, b] = [await s.replica("A"), await s.replica("B")];
  const session = await s.connect(b);
  const id = await s.message(a, { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" });
  await claimMessages(s.db, s.scope(b, session));
  const under = await s.traced(id);
  expect([under.state, events(under)]).toEqual(["delivering", ["accepted", "claimed"]]);
  expect(under.next.map((n) => n.event)).toEqual(["delivered", "given_back"]);
  expect(under.waiting).toBeUndefined();
  await settleDelivered(s.db, { instanceId: b, deliveries: [{ id, sessionId: session }] });
  await buryReplica(s.db, b);
  const by = {
    replica: { id: b, name: "B" },
    runtimeBroker: { id: s.runtimeBroker, name: s.place },
    session,
    attempt: 1,
  };
  expect(await s.traced(id)).toEqual({
    id,
    kind: "message",
    state: "delivered",
    projectId: s.project,
    agent: { id: s.agent, slug: "a1" },
    attempts: 1,
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    hops: [
      { event: "accepted", at: expect.any(String), replica: { id: a, name: "A" } },
      { event: "claimed", at: expect.any(String), waitedMs: expect.any(Number), ...by },
      { event: "delivered", at: expect.any(String), ...by },
    ],
    next: [],
  });
  expect(await s.query("select 1 from trace_hops where subject_id = $1", [id])).toEqual([]);
});

test("its owner died in the middle: attempt 1 there, given back, attempt 2 at the next owner", async () => {
  const [a, b] = [await s.replica("A"), await s.replica("B")];
  const first = await s.connect(a);
  const id = await s.message(b, { holdReason: "the agent is starting" });
  await claimMessages(s.db, s.scope(a, first));
  await buryReplica(s.db, a);
  await s.disconnect();
  const waiting = await s.traced(id);
  expect(waiting.waiting).toEqual({
    since: waiting.hops.at(-1)?.at,
    reasons: [`owner unknown: waiting for reconnect of runtime broker ${s.place} since 2026-01-02T03:04:05.678Z`],
  });
  expect(waiting.next[0]).toEqual({
    event: "claimed",
    when: "once the runtime broker connects, to whichever replica",
  });
  const second = await s.connect(b);
  await claimMessages(s.db, s.scope(b, second));
  await settleDelivered(s.db, { instanceId: b, deliveries: [{ id, sessionId: second }] });
  const { hops, attempts } = await s.traced(id);
  expect(attempts).toBe(2);
  expect(hops).toMatchObject([
    { event: "accepted", replica: { name: "B" } },
    { event: "claimed", replica: { name: "A" }, session: first, attempt: 1, waitedFor: "the agent is starting" },
    { event: "given_back", replica: { name: "A" }, session: first, attempt: 1, reason: "its replica died" },
    { event: "claimed", replica: { name: "B" }, session: second, attempt: 2, waitedFor: "its replica died" },
    { event: "delivered", replica: { name: "B" }, session: second, attempt: 2 },
  ]);
});

test("a newer socket voids the claim, and says so", async () => {
  const a = await s.replica("A");
  const first = await s.connect(a);
  const id = await s.message(a);
  await claimMessages(s.db, s.scope(a, first));
  const second = await s.connect(a);
  await voidOlderClaims(s.db, [{ runtimeBrokerId: s.runtimeBroker, sessionId: second }]);
  expect((await s.traced(id)).hops.at(-1)).toMatchObject({
    event: "given_back",
    session: first,
    reason: "its runtime broker connected anew before it had answered",
  });
});

test("what is refused over and over leaves one hop that counts", async () => {
  const a = await s.replica("A");
  const session = await s.connect(a);
  const id = await s.message(a);
  for (let i = 0; i < 5; i += 1) {
    await claimMessages(s.db, s.scope(a, session));
    const deliveries = [{ id, sessionId: session }];
    await releaseMessages(s.db, { instanceId: a, deliveries, reason: "the runtime broker answered 409" });
  }
  const trace = await s.traced(id);
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
  const a = await s.replica("A");
  const session = await s.connect(a);
  const id = await s.message(a);
  await claimMessages(s.db, s.scope(a, session));
  const deliveries = [{ id, sessionId: session }];
  await releaseMessages(s.db, { instanceId: a, deliveries, reason: "taken for dead" });
  expect((await s.traced(id)).waiting?.reasons).toEqual(["given back, and not taken again yet: taken for dead"]);
  await settleDelivered(s.db, { instanceId: a, deliveries });
  const trace = await s.traced(id);
  expect(events(trace)).toEqual(["accepted", "claimed", "given_back", "delivered"]);
  expect(trace.hops.at(-1)).toMatchObject({ replica: { name: "A" }, session, attempt: 1 });
});

test("a failure says when, where and why", async () => {
  const a = await s.replica("A");
  const session = await s.connect(a);
  const refused = await s.message(a);
  await claimMessages(s.db, s.scope(a, session));
  const delivery = { id: refused, sessionId: session };
  await failMessage(s.db, { instanceId: a, delivery, error: "the runtime broker answered 400: no" });
  expect((await s.traced(refused)).hops.slice(1)).toMatchObject([
    { event: "claimed", replica: { name: "A" }, attempt: 1 },
    { event: "failed", replica: { name: "A" }, attempt: 1, reason: "the runtime broker answered 400: no" },
  ]);
  const orphaned = await s.message(a, { senderId: OWNER.id });
  await s.query("delete from agents where id = $1", [s.agent]);
  const trace = await s.read(`/api/v1/messages/${orphaned}/trace`, OWNER);
  expect([trace.state, trace.next]).toEqual(["failed", []]);
  expect(trace.hops.at(-1)).toMatchObject({ event: "failed", reason: "the agent was deleted", at: expect.any(String) });
  expect((await s.hub.as(member("eve")).get(`/api/v1/messages/${orphaned}/trace`)).status).toBe(404);
});

test.each([
  ["stopped", ["agent not running (stopped): waits for its next start"]],
  ["suspended", ["agent not running (suspended): waits for its next start"]],
  ["error", ["agent not running (error): waits for its next start"]],
  ["starting", ["agent starting"]],
  ["provisioning", ["agent starting (provisioning)"]],
])("an agent in phase %s: the reason is told, and when it fails", async (phase, reasons) => {
  const a = await s.replica("A");
  await s.connect(a);
  const id = await s.message(a);
  await s.query("update agents set phase = $2, running_since = null, ready_at = null where id = $1", [s.agent, phase]);
  const trace = await s.traced(id);
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

test("refused for one reason and another in turns: it waits since the last refusal, whichever it was", async () => {
  const a = await s.replica("A");
  const session = await s.connect(a);
  const id = await s.message(a);
  const reasons = ["the runtime broker answered 409", "the runtime broker answered 503"];
  for (const reason of [...reasons, ...reasons.slice(0, 1)]) {
    await claimMessages(s.db, s.scope(a, session));
    await releaseMessages(s.db, { instanceId: a, deliveries: [{ id, sessionId: session }], reason });
  }
  // As long after the other as there is between two attempts.
  await s.query("update trace_hops set last_at = last_at + interval '1 second' where subject_id = $1 and times = 2", [
    id,
  ]);
  const pending = await s.traced(id);
  expect(pending.hops.slice(1)).toMatchObject([
    { event: "claimed", attempt: 1 },
    { event: "given_back", attempt: 1, reason: reasons[0], times: 2 },
    { event: "claimed", attempt: 2, waitedFor: reasons[0] },
    { event: "given_back", attempt: 2, reason: reasons[1] },
  ]);
  const last = pending.hops[2]?.lastAt ?? "";
  expect(last > (pending.hops[4]?.at ?? "")).toBe(true);
  expect(pending.waiting?.since).toBe(last);
  expect(pending.next[0]?.at).toBe(new Date(Date.parse(last) + 2_000).toISOString());
  expect(pending.hops[3]?.waitedMs).toBe(Date.parse(pending.hops[3]?.at ?? "") - Date.parse(pending.hops[2]?.at ?? ""));
  // Acknowledged after all over the same socket: the last claim has been told by what came to nothing.
  await settleDelivered(s.db, { instanceId: a, deliveries: [{ id, sessionId: session }] });
  expect(events(await s.traced(id)).slice(-2)).toEqual(["given_back", "delivered"]);
});

test("a deleted agent: what waits for it fails when it can be restored no longer, if that is before its own time", async () => {
  const a = await s.replica("A");
  await s.connect(a);
  const id = await s.message(a);
  const deletedAt = new Date(Date.now() - 3_600_000);
  await s.query("update agents set phase = 'stopped', deleted_at = $2 where id = $1", [s.agent, deletedAt]);
  const trace = await s.traced(id);
  expect(trace.waiting?.reasons).toEqual(["agent deleted: waits for its restore"]);
  expect(trace.next).toEqual([
    { event: "claimed", when: "once the agent is restored and runs" },
    {
      event: "failed",
      at: new Date(deletedAt.getTime() + 259_200_000).toISOString(),
      when: expect.stringContaining("restored no longer"),
    },
  ]);
});

test("the runtime broker was deleted: nothing is said to come but the end", async () => {
  const a = await s.replica("A");
  await s.connect(a);
  const id = await s.message(a);
  await s.query("delete from runtime_brokers where id = $1", [s.runtimeBroker]);
  const trace = await s.traced(id);
  expect(trace.waiting?.reasons).toEqual(["the agent has no runtime broker"]);
  expect(trace.next.map((n) => n.event)).toEqual(["failed"]);
});

test("an agent that runs and says nothing yet: until when is told", async () => {
  const a = await s.replica("A");
  await s.connect(a);
  const id = await s.message(a);
  await s.query("update agents set ready_at = null where id = $1", [s.agent]);
  const [row] = await s.query<{ at: Date }>(
    "select running_since + interval '15 seconds' as at from agents where id = $1",
    [s.agent],
  );
  const trace = await s.traced(id);
  expect(trace.waiting?.reasons).toEqual(["agent running, but it has reported no activity since its start"]);
  expect(trace.next[0]).toMatchObject({ event: "claimed", at: row?.at.toISOString() });
});

test("behind an operation and behind earlier messages; afterwards the claim remembers the latter", async () => {
  const a = await s.replica("A");
  const session = await s.connect(a);
  const [first, second] = [await s.message(a), await s.message(a)];
  const id = await s.message(a);
  const stop = await s.operation(a);
  expect((await s.traced(id)).waiting?.reasons).toEqual([
    `behind the operation stop (${stop}), which is pending`,
    "behind 2 earlier messages",
  ]);
  await withdrawDispatch(s.db, stop, "changed my mind");
  expect((await s.traced(first)).waiting?.reasons).toEqual([
    "replica A, which holds the runtime broker's socket, has not taken it yet",
  ]);
  for (const sent of [first, second, id]) {
    await claimMessages(s.db, s.scope(a, session));
    await settleDelivered(s.db, { instanceId: a, deliveries: [{ id: sent, sessionId: session }] });
  }
  expect((await s.traced(id)).hops[1]).toMatchObject({ event: "claimed", waitedFor: "behind 2 earlier messages" });
  expect((await s.traced(first)).hops[1]).not.toHaveProperty("waitedFor");
});

test("its owner hangs: since when it is not heard of, and what will help", async () => {
  const a = await s.replica("A");
  await s.connect(a);
  const ids = [await s.message(a), await s.operation(a)];
  const traces = async () => [await s.traced(ids[0] ?? ""), await s.read(`/api/v1/dispatches/${ids[1]}`)];
  const reasons = async () => (await traces()).map((trace) => trace.waiting?.reasons[0]);
  await s.query("update hub_replicas set last_seen = now() - interval '1 minute' where instance_id = $1", [a]);
  const [row] = await s.query<{ at: Date }>("select last_seen as at from hub_replicas where instance_id = $1", [a]);
  const held = "replica A, which held the runtime broker's socket, has";
  const silent = `${held} not been heard of since ${row?.at.toISOString()}`;
  expect(await reasons()).toEqual([silent, silent]);
  const when = "once that replica is back, or the runtime broker has connected to another";
  for (const { next } of await traces()) expect(next[0]).toEqual({ event: "claimed", when });
  await s.query("delete from hub_replicas where instance_id = $1", [a]);
  expect(await reasons()).toEqual([`${held} gone`, `${held} gone`]);
});
