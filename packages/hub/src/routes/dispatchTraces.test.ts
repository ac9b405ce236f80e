import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  claimDispatches,
  completeDispatch,
  failDispatch,
  insertClaimedDispatch,
  type NewDispatch,
  releaseDispatch,
  withdrawDispatch,
} from "@rootstock/store";
import { ADMIN, listAt, textAt } from "./routes.testing.ts";
import { OWNER, TraceStage } from "./traces.testing.ts";

/** Where an operation has been, why it waits, and what comes next. */

const s = new TraceStage();

test("an operation: what it waited for, an attempt that came to nothing, its end", async () => {
  const [a, b] = [await s.replica("A"), await s.replica("B")];
  await s.disconnect();
  const id = await s.operation(a);
  const traceOf = () => s.read(`/api/v1/dispatches/${id}`);
  const pending = await traceOf();
  expect(pending.waiting?.reasons).toEqual([
    `owner unknown: waiting for reconnect of runtime broker ${s.place} since 2026-01-02T03:04:05.678Z`,
  ]);
  expect(pending.next).toMatchObject([{ event: "claimed" }, { event: "expired", at: expect.any(String) }]);
  const first = await s.connect(b);
  await claimDispatches(s.db, s.scope(b, first));
  expect((await traceOf()).next.map((n) => n.event)).toEqual(["done", "failed", "given_back"]);
  const lost = { id, claim: { instanceId: b, sessionId: first }, sent: true, reason: "connection lost" };
  await releaseDispatch(s.db, lost);
  // It may have been carried out: nobody may hear that it never will be.
  expect(await withdrawDispatch(s.db, id, "nobody took it up in time")).toBe(false);
  const second = await s.connect(a);
  await claimDispatches(s.db, s.scope(a, second));
  await completeDispatch(s.db, { id, claim: { instanceId: a, sessionId: second }, result: {} });
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
  expect(await s.read(`/api/v1/dispatches/${id}/trace`)).toEqual(done);
});

test("a call over the owner's own socket is told from its beginning, and begins over no socket that has moved on", async () => {
  const a = await s.replica("A");
  const session = await s.connect(a);
  const claim = { instanceId: a, sessionId: session };
  const start = (id: string): NewDispatch => ({
    id,
    runtimeBrokerId: s.runtimeBroker,
    agentId: s.agent,
    agentSlug: "a1",
    projectId: s.project,
    op: "start",
    args: {},
    deadlineSeconds: 90,
    acceptedBy: a,
  });
  const id = systemRandom.uuid();
  expect(await insertClaimedDispatch(s.db, { dispatch: start(id), claim })).toBe(true);
  const begun = await s.read(`/api/v1/dispatches/${id}`);
  const by = { replica: { name: "A" }, session, attempt: 1 };
  expect(begun).toMatchObject({ op: "start", state: "in_progress", attempts: 1, maxAttempts: 3 });
  expect(begun.hops).toMatchObject([
    { event: "accepted", replica: { name: "A" } },
    { event: "claimed", waitedMs: 0, ...by },
  ]);
  expect(begun.next.map((n) => n.event)).toEqual(["done", "failed", "given_back"]);
  await failDispatch(s.db, { id, claim, error: "no such harness", result: {} });
  const failed = await s.read(`/api/v1/dispatches/${id}`);
  expect(failed).toMatchObject({ state: "failed", error: "no such harness", next: [] });
  expect(failed.hops.at(-1)).toMatchObject({ event: "failed", reason: "no such harness", ...by });
  await s.connect(a);
  const late = systemRandom.uuid();
  expect(await insertClaimedDispatch(s.db, { dispatch: start(late), claim })).toBe(false);
  expect((await s.hub.as(ADMIN).get(`/api/v1/dispatches/${late}`)).status).toBe(404);
});

test("an operation behind another says so, and one that was withdrawn why", async () => {
  const a = await s.replica("A");
  await s.connect(a);
  const first = await s.operation(a);
  const id = await s.operation(a);
  expect((await s.read(`/api/v1/dispatches/${id}`)).waiting?.reasons).toEqual([
    `behind the operation stop (${first}), which is pending`,
  ]);
  await withdrawDispatch(s.db, id, "nobody took it up in time");
  const trace = await s.read(`/api/v1/dispatches/${id}`);
  expect(trace.hops.at(-1)).toMatchObject({ event: "expired", reason: "nobody took it up in time" });
  expect([trace.state, trace.next]).toEqual(["expired", []]);
  const listed = await s.hub.as(OWNER).get(`/api/v1/agents/${s.agent}/dispatches`);
  expect(listAt(listed.body, "dispatches").map((d) => [textAt(d, "id"), textAt(d, "state")])).toEqual([
    [id, "expired"],
    [first, "pending"],
  ]);
});

test("an operation that waits is over when its agent goes; one under way when it is given back", async () => {
  const a = await s.replica("A");
  const session = await s.connect(a);
  const [underWay, waiting] = [await s.operation(a, OWNER.id), await s.operation(a, OWNER.id)];
  await claimDispatches(s.db, s.scope(a, session));
  await s.query("delete from agents where id = $1", [s.agent]);
  const traceOf = (id: string) => s.read(`/api/v1/dispatches/${id}`, OWNER);
  const over = { state: "failed", error: "the agent was deleted", next: [] };
  expect(await traceOf(waiting)).toMatchObject(over);
  expect((await traceOf(underWay)).state).toBe("in_progress");
  const claim = { instanceId: a, sessionId: session };
  await releaseDispatch(s.db, { id: underWay, claim, sent: true, reason: "connection lost" });
  const trace = await traceOf(underWay);
  expect(trace).toMatchObject(over);
  expect(trace.hops.slice(1)).toMatchObject([
    { event: "claimed" },
    { event: "given_back", reason: "connection lost" },
    { event: "failed", reason: "the agent was deleted" },
  ]);
});
