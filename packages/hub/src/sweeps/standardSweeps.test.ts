import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import type { LockName } from "@rootstock/store";
import {
  createTestDatabase,
  eventually,
  type Seed,
  type StoreStack,
  seed,
  startStoreStack,
  TEST_SECRET,
  type TestDatabase,
} from "@rootstock/testkit";
import { AgentConfigs, SecretBox } from "../secrets/index.ts";
import { OVERDUE_SECONDS, standardSweeps } from "./standardSweeps.ts";
import type { Sweep } from "./sweeper.ts";

let db: TestDatabase;
let stack: StoreStack;
let rows: Seed;
let sweeps: readonly Sweep[];
let older: boolean;
let fraction: number;
let told: { wake: Set<string>; done: Set<string>; changes: number };

beforeEach(async () => {
  older = false;
  db = await createTestDatabase();
  stack = await startStoreStack(db.url);
  rows = seed(db);
  fraction = 0;
  sweeps = standardSweeps({
    random: { fraction: () => fraction },
    auditSeconds: 30 * 86_400,
    ...stack,
    agentConfigs: new AgentConfigs(stack.base, {
      db: stack.database.db,
      box: new SecretBox({ secrets: [TEST_SECRET], ...stack.base }),
      olderReplicas: () => older,
    }),
    softDeleteSeconds: 3_600,
    undeliveredMessageSeconds: 7_200,
    historySeconds: 86_400,
    feedSeconds: 7 * 86_400,
    stalledAfterSeconds: 300,
  });
  told = { wake: new Set(), done: new Set(), changes: 0 };
  stack.listener.onCommands((c) => {
    for (const [id] of c.wake) told.wake.add(id);
    for (const id of c.done) told.done.add(id);
  });
  stack.listener.onChanges(() => {
    told.changes += 1;
  });
});
afterEach(async () => {
  await stack.stop();
  await db.drop();
});

/** Runs the sweep as two replicas at once would, and returns what both changed together. */
const run = async (name: LockName): Promise<number> => {
  const sweep = sweeps.find((s) => s.name === name);
  if (!sweep) throw new Error(name);
  const { signal } = new AbortController();
  const [a, b] = await Promise.all([sweep.runOnce(signal), sweep.runOnce(signal)]);
  return a + b;
};
const ago = (seconds: number) => new Date(stack.base.clock.now() - seconds * 1000);
const state = async (table: string, id: string) =>
  (await db.query<Record<string, unknown>>(`select * from ${table} where id = $1`, [id]))[0];
const uuid = () => systemRandom.uuid();

/** A runtime broker held by a socket since ten seconds ago. */
const heldBroker = async () => {
  const [hub, session] = [uuid(), uuid()];
  const id = await rows.runtimeBroker({
    status: "online",
    connected_hub_id: hub,
    connected_session_id: session,
    connected_at: ago(10),
  });
  return { id, hub, session };
};

test("every sweep has a lock and a row of its own, and one with nothing to do does nothing", async () => {
  expect(new Set(sweeps.map((s) => s.name)).size).toBe(sweeps.length);
  for (const { name } of sweeps) expect([name, await run(name)]).toEqual([name, 0]);
});

test("configurations that lie open are sealed once the replicas are gone that look for nothing else", async () => {
  const config = { image: "i", env: { KEY: "v" }, inlineConfig: { max_turns: 3 } };
  const project = await rows.project();
  const ids = [];
  for (let i = 0; i < 5; i += 1)
    ids.push(await rows.agent({ project_id: project, applied_config: JSON.stringify(config) }));
  await rows.agent({ project_id: project, applied_config: JSON.stringify({ image: "i" }) });
  const open = () => db.query("select id from agents where applied_config ?| array['env', 'inlineConfig']");
  older = true;
  expect([await run("unsealedConfigs"), (await open()).length]).toEqual([0, 5]);
  older = false;
  expect([await run("unsealedConfigs"), (await open()).length]).toEqual([10, 0]);
  for (const id of ids)
    expect(await state("agents", id)).toMatchObject({ applied_config: { image: "i", valuesVersion: 1 } });
  await eventually(() => told.changes > 0);
  expect(await run("unsealedConfigs")).toBe(0);
});

test("a sweep that is told to end does not begin another chunk", async () => {
  const rb = await rows.runtimeBroker();
  await rows.dispatch({ runtime_broker_id: rb, deadline_at: ago(1) });
  const aborted = AbortSignal.abort();
  for (const sweep of sweeps) expect(await sweep.runOnce(aborted)).toBe(0);
});

test("lifecycle intents that nobody took in time expire, and whoever waits is told", async () => {
  const rb = await rows.runtimeBroker();
  const late = await rows.dispatch({ runtime_broker_id: rb, deadline_at: ago(1) });
  const early = await rows.dispatch({ runtime_broker_id: rb });
  expect(await run("stuckDispatches")).toBe(1);
  expect(await state("broker_dispatch", late)).toMatchObject({ state: "expired", error: expect.any(String) });
  expect(await state("broker_dispatch", early)).toMatchObject({ state: "pending" });
  await eventually(() => told.done.has(late));
});

test("claims of a socket that is not the runtime broker's own any more are taken back; those of the own one are not", async () => {
  const { id: rb, hub, session } = await heldBroker();
  const agents = await Promise.all(
    Array.from({ length: 5 }, async () => rows.agent({ project_id: await rows.project(), runtime_broker_id: rb })),
  );
  const claimed = (i: number, over: Record<string, unknown>) =>
    rows.dispatch({
      runtime_broker_id: rb,
      agent_id: agents[i],
      state: "in_progress",
      attempts: 1,
      claimed_by: hub,
      claim_session: session,
      ...over,
    });
  const own = await claimed(0, {});
  const old = await claimed(1, { claim_session: uuid() });
  const spent = await claimed(2, { claimed_by: uuid(), attempts: 3 });
  const late = await claimed(3, { claimed_by: uuid(), deadline_at: ago(1) });
  const project = await rows.project();
  const message = (agent: string | undefined, claim: string) =>
    rows.message({
      project_id: project,
      agent_id: agent,
      runtime_broker_id: rb,
      state: "delivering",
      claimed_by: hub,
      claim_session: claim,
    });
  const [ownMessage, oldMessage] = [await message(agents[0], session), await message(agents[1], uuid())];

  expect(await run("stuckDispatches")).toBeGreaterThan(0);
  const states = async () =>
    Promise.all([own, old, spent, late].map(async (id) => (await state("broker_dispatch", id))?.state));
  expect(await states()).toEqual(["in_progress", "pending", "failed", "failed"]);
  expect(await state("broker_dispatch", old)).toMatchObject({ attempts: 1, claimed_by: null, claim_session: null });
  expect(await state("messages", ownMessage)).toMatchObject({ state: "delivering" });
  expect(await state("messages", oldMessage)).toMatchObject({ state: "pending", claimed_by: null });
  await eventually(() => told.wake.has(rb) && told.done.has(spent) && told.done.has(late));
});

test("a socket that moved a moment ago keeps its claims: its replica is about to settle them", async () => {
  const rb = await rows.runtimeBroker({ disconnected_at: ago(1) });
  const fresh = await rows.dispatch({
    runtime_broker_id: rb,
    agent_id: await rows.agent({ project_id: await rows.project() }),
    state: "in_progress",
    attempts: 1,
    claimed_by: uuid(),
    claim_session: uuid(),
  });
  expect(await run("stuckDispatches")).toBe(0);
  await db.query("update runtime_brokers set disconnected_at = $1", [ago(10)]);
  expect(await run("stuckDispatches")).toBe(1);
  expect(await state("broker_dispatch", fresh)).toMatchObject({ state: "pending" });
});

test("invariant 2: one execution at a time: an overdue intent that the live socket may still be at fails, and never runs again", async () => {
  const { id: rb, hub, session } = await heldBroker();
  const claim = { runtime_broker_id: rb, state: "in_progress", claimed_by: hub, claim_session: session, attempts: 1 };
  const slow = await rows.dispatch({ ...claim, claimed_at: ago(OVERDUE_SECONDS - 30), deadline_at: ago(300) });
  const lost = await rows.dispatch({ ...claim, claimed_at: ago(OVERDUE_SECONDS + 30), deadline_at: ago(300) });
  expect(await run("stuckDispatches")).toBe(1);
  expect(await state("broker_dispatch", slow)).toMatchObject({ state: "in_progress" });
  expect(await state("broker_dispatch", lost)).toMatchObject({ state: "failed" });
});

test("an agent says what became of an operation on it that nobody answered: a launch is over, a halt has failed", async () => {
  const { id: rb, hub, session } = await heldBroker();
  const project = await rows.project();
  const agent = (more: object) => rows.agent({ project_id: project, runtime_broker_id: rb, ...more });
  const [starting, running] = [await agent({ phase: "starting", launching: true }), await agent({ phase: "running" })];
  const claim = { runtime_broker_id: rb, state: "in_progress", claimed_by: hub, claim_session: session, attempts: 1 };
  const overdue = { claimed_at: ago(OVERDUE_SECONDS + 30), deadline_at: ago(300) };
  await rows.dispatch({ ...claim, op: "start", agent_id: starting, ...overdue });
  await rows.dispatch({ ...claim, op: "stop", agent_id: running, ...overdue });
  expect(await run("stuckDispatches")).toBe(2);
  const message = "the runtime broker did not answer in time";
  expect(await state("agents", starting)).toMatchObject({ phase: "error", launching: false, message });
  expect(await state("agents", running)).toMatchObject({ phase: "running", message: `stop failed: ${message}` });
});

test("messages that waited too long fail with the reason, and an event tells it", async () => {
  const project = await rows.project();
  const agent = await rows.agent({ project_id: project });
  const old = await rows.message({
    project_id: project,
    agent_id: agent,
    state: "pending",
    hold_reason: "the agent is stopped",
    created: ago(8_000),
  });
  const young = await rows.message({ project_id: project, agent_id: agent, state: "pending" });
  const inbox = await rows.message({ project_id: project, created: ago(100_000) });
  expect(await run("undeliveredMessages")).toBe(1);
  expect(await state("messages", old)).toMatchObject({
    state: "failed",
    error: "not delivered in time: the agent is stopped",
  });
  expect(await state("messages", young)).toMatchObject({ state: "pending" });
  expect(await state("messages", inbox)).toMatchObject({ state: null });
  await eventually(() => told.done.has(old) && told.changes > 0);
  expect(
    await db.query("select op from change_log where entity = 'message' and entity_id = $1 order by id", [old]),
  ).toEqual([{ op: "I" }, { op: "U" }]);
});

test("agents that went silent are offline and remember what they did; the ended, blocked and deleted are left alone", async () => {
  const project = await rows.project();
  const running = (over: Record<string, unknown>) =>
    rows.agent({ project_id: project, phase: "running", last_seen: ago(130), activity: "working", ...over });
  const silent = await running({});
  const wasStalled = await running({ activity: "stalled", stalled_from_activity: "executing" });
  const unheard = await running({ activity: null, last_seen: null, running_since: ago(130) });
  const others = await Promise.all([
    running({ last_seen: ago(60) }),
    running({ activity: "completed" }),
    running({ activity: "limits_exceeded" }),
    running({ activity: "blocked" }),
    running({ phase: "stopped" }),
    running({ deleted_at: ago(1) }),
  ]);
  expect(await run("offlineAgents")).toBe(3);
  expect(await state("agents", silent)).toMatchObject({ activity: "offline", stalled_from_activity: "working" });
  expect(await state("agents", wasStalled)).toMatchObject({ activity: "offline", stalled_from_activity: "executing" });
  expect(await state("agents", unheard)).toMatchObject({ activity: "offline", stalled_from_activity: null });
  for (const id of others) expect((await state("agents", id))?.activity).not.toBe("offline");
  expect(await run("offlineAgents")).toBe(0);
});

test("agents that are heard of and do nothing are stalled and remember what they did", async () => {
  const project = await rows.project();
  const running = (over: Record<string, unknown>) =>
    rows.agent({
      project_id: project,
      phase: "running",
      last_seen: ago(10),
      last_activity_event: ago(310),
      activity: "thinking",
      ...over,
    });
  const idle = await running({});
  const others = await Promise.all([
    running({ last_activity_event: ago(290) }),
    running({ last_activity_event: null }),
    running({ last_seen: ago(130) }),
    running({ activity: "waiting_for_input" }),
    running({ activity: "offline" }),
    running({ deleted_at: ago(1) }),
    running({ phase: "starting" }),
  ]);
  expect(await run("stalledAgents")).toBe(1);
  expect(await state("agents", idle)).toMatchObject({ activity: "stalled", stalled_from_activity: "thinking" });
  for (const id of others) expect((await state("agents", id))?.activity).not.toBe("stalled");
});

test("runtime brokers without a socket are offline after the redial grace, not before", async () => {
  const gone = await rows.runtimeBroker({ status: "online", disconnected_at: ago(6) });
  const redialling = await rows.runtimeBroker({ status: "online", disconnected_at: ago(2) });
  const { id: held } = await heldBroker();
  expect(await run("offlineRuntimeBrokers")).toBe(1);
  expect((await state("runtime_brokers", gone))?.status).toBe("offline");
  expect((await state("runtime_brokers", redialling))?.status).toBe("online");
  expect((await state("runtime_brokers", held))?.status).toBe("online");
  await eventually(() => told.changes > 0);
});

test("agents deleted long ago go for good, with what waited for them; one with work under way stays", async () => {
  const project = await rows.project();
  const rb = await rows.runtimeBroker();
  const deleted = (seconds: number) => rows.agent({ project_id: project, deleted_at: ago(seconds) });
  const [expired, restorable, busy] = [await deleted(3_700), await deleted(3_500), await deleted(3_700)];
  const waiting = await rows.message({ project_id: project, agent_id: expired, state: "pending" });
  await rows.message({
    project_id: project,
    agent_id: expired,
    state: "delivering",
    claimed_by: uuid(),
    claim_session: uuid(),
  });
  await rows.dispatch({ runtime_broker_id: rb, agent_id: busy, op: "delete" });
  expect(await run("deletedAgents")).toBe(1);
  expect(await state("agents", expired)).toBeUndefined();
  expect(await state("agents", restorable)).toBeDefined();
  expect(await state("agents", busy)).toBeDefined();
  expect(await state("messages", waiting)).toMatchObject({ state: "failed", agent_id: null });
});

test("an agent that was told much goes a piece at a time: no statement has more of its messages than a moment's work", async () => {
  const project = await rows.project();
  const agent = await rows.agent({ project_id: project, deleted_at: ago(7_200), phase: "stopped" });
  const told = 12_000;
  await db.query(
    `insert into messages (id, project_id, agent_id, sender, recipient, msg, state, dispatched_at)
     select gen_random_uuid(), $1, $2, 'user:x', 'agent:x', 'told before', 'delivered', now() from generate_series(1, $3::int)`,
    [project, agent, told],
  );
  const waits = await rows.message({ project_id: project, agent_id: agent, state: "pending" });
  await db.query("create table touched (n bigint not null)");
  await db.query(
    `create function count_touched() returns trigger language plpgsql as $$
     begin insert into touched select count(*) from before; return null; end $$`,
  );
  await db.query(
    `create trigger count_touched after update on messages referencing old table as before
       for each statement execute function count_touched()`,
  );
  expect(await run("deletedAgents")).toBe(1);
  expect(await state("agents", agent)).toBeUndefined();
  expect(await state("messages", waits)).toMatchObject({ state: "failed", agent_id: null });
  expect(await db.query("select from messages where agent_id is null and state = 'delivered'")).toHaveLength(told);
  const [most] = await db.query<{ n: string }>("select max(n) as n from touched");
  expect(Number(most?.n)).toBeLessThanOrEqual(7_500);
});

test("nonces, join tokens, former secrets and idempotency keys go when their time is over", async () => {
  const rb = await rows.runtimeBroker();
  const other = await rows.runtimeBroker();
  // A signature with a clock five minutes ahead is good for ten minutes.
  await db.query("insert into seen_nonces values ($1, 'old', $2), ($1, 'late', $3), ($1, 'new', now())", [
    rb,
    ago(700),
    ago(630),
  ]);
  await db.query(
    `insert into broker_secrets (id, runtime_broker_id, secret, status, expires_at)
     values (gen_random_uuid(), $1, '\\x01', 'deprecated', now() - interval '8 days'),
       (gen_random_uuid(), $1, '\\x02', 'deprecated', now() - interval '1 day'),
       (gen_random_uuid(), $1, '\\x03', 'active', null)`,
    [rb],
  );
  await db.query(
    `insert into broker_join_tokens (runtime_broker_id, token_hash, expires_at)
     values ($1, 'old', $3), ($2, 'new', now() + interval '1 hour')`,
    [rb, other, ago(1)],
  );
  await db.query(
    `insert into idempotency_keys (principal, key, method, path, body_hash, operation, expires_at)
     values ('p', 'old', 'POST', '/', '', '{}', $1), ('p', 'new', 'POST', '/', '', '{}', now() + interval '1 hour')`,
    [ago(1)],
  );
  for (const name of ["seenNonces", "idempotencyKeys"] as const) expect(await run(name)).toBe(1);
  expect(await run("joinTokens")).toBe(2);
  expect(await db.query("select nonce from seen_nonces order by nonce")).toEqual([{ nonce: "late" }, { nonce: "new" }]);
  expect(await db.query("select status from broker_secrets order by secret")).toEqual([
    { status: "deprecated" },
    { status: "active" },
  ]);
  expect(await db.query("select token_hash from broker_join_tokens")).toEqual([{ token_hash: "new" }]);
  expect(await db.query("select key from idempotency_keys")).toEqual([{ key: "new" }]);
});

test("tokens of programs that count no more are forgotten after three months", async () => {
  const [user, project] = [uuid(), await rows.project()];
  await db.query("insert into users (id, email) values ($1, 'ann@example.org')", [user]);
  const token = async (name: string, expires: Date, revoked: Date | null) =>
    db.query(
      `insert into access_tokens (id, user_id, project_id, name, prefix, token_hash, scopes, expires_at, revoked_at)
       values ($1, $2, $3, $4, 'p', $5, '{}', $6, $7)`,
      [uuid(), user, project, name, Buffer.from(name), expires, revoked],
    );
  const [long, lately, later] = [ago(91 * 86_400), ago(89 * 86_400), ago(-86_400)];
  await token("counts", later, null);
  await token("lately revoked", later, lately);
  await token("lately over", lately, null);
  await token("revoked", later, long);
  await token("over", long, null);
  expect(await run("signIns")).toBe(2);
  const left = await db.query<{ name: string }>("select name from access_tokens order by name");
  expect(left.map((t) => t.name)).toEqual(["counts", "lately over", "lately revoked"]);
});

test("frames of streams that nobody came for go", async () => {
  await db.query(
    `insert into stream_frames (to_replica, from_replica, stream_id, seq, kind, body, created)
     select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), n, 'data', '', now() - n * interval '1 second'
       from unnest(array[0, 50, 70, 7000]) as n`,
  );
  expect(await run("streamFrames")).toBe(2);
  expect(await db.query("select seq from stream_frames order by seq")).toEqual([{ seq: 0 }, { seq: 50 }]);
});

test("old changes go, and the log says up to which transaction", async () => {
  await db.query(
    `insert into change_log (entity, entity_id, op, at)
     select 'other', gen_random_uuid(), 'I', now() - interval '8 days' from generate_series(1, 12000)`,
  );
  await db.query("insert into change_log (entity, entity_id, op) values ('other', gen_random_uuid(), 'I')");
  const [newest] = await db.query<{ tx: string }>(
    "select max(tx)::text as tx from change_log where at < now() - interval '7 days'",
  );
  expect(await run("changeLog")).toBe(12_000);
  expect(await db.query("select pruned_tx::text as tx from feed_meta")).toEqual([newest]);
  expect(await db.query("select 1 from change_log")).toHaveLength(1);
});

test("finished dispatches and what delivered messages carried go after a week", async () => {
  const rb = await rows.runtimeBroker();
  const project = await rows.project();
  const week = 8 * 24 * 3_600;
  const old = await rows.dispatch({ runtime_broker_id: rb, state: "done", updated_at: ago(week) });
  const kept = await Promise.all([
    rows.dispatch({ runtime_broker_id: rb, state: "done" }),
    rows.dispatch({ runtime_broker_id: rb, updated_at: ago(week) }),
  ]);
  const large = JSON.stringify({ metadata: { note: "x".repeat(1_000) } });
  const delivered = (over: Record<string, unknown>) =>
    rows.message({
      project_id: project,
      state: "delivered",
      dispatched_at: ago(week),
      envelope: large,
      bulky: true,
      ...over,
    });
  const trimmed = await delivered({});
  const recent = await delivered({ dispatched_at: ago(60) });
  const small = await delivered({ envelope: '{"plain":true}', bulky: false });
  expect(await run("oldPayloads")).toBe(2);
  expect(await state("broker_dispatch", old)).toBeUndefined();
  for (const id of kept) expect(await state("broker_dispatch", id)).toBeDefined();
  expect(await state("messages", trimmed)).toMatchObject({ envelope: {}, msg: expect.any(String) });
  expect(await state("messages", recent)).toMatchObject({ envelope: { metadata: expect.anything() } });
  expect(await state("messages", small)).toMatchObject({ envelope: { plain: true } });
});

test("hops go once nothing can wait with them any longer; names of replicas long after they are gone", async () => {
  const day = 24 * 3_600;
  const hop = (lastAt: Date) =>
    db.query("insert into trace_hops (subject_id, event, reason, last_at) values ($1, 'given_back', 'x', $2)", [
      uuid(),
      lastAt,
    ]);
  await hop(ago(30 * day));
  await hop(ago(3_600));
  const name = (text: string, goneAt: Date | null) =>
    db.query("insert into replica_names (instance_id, name, version, gone_at) values ($1, $2, '1', $3)", [
      uuid(),
      text,
      goneAt,
    ]);
  await name("long gone", ago(100 * day));
  await name("gone", ago(30 * day));
  await name("there", null);
  expect(await run("oldPayloads")).toBe(2);
  expect(await db.query("select 1 from trace_hops")).toHaveLength(1);
  const names = await db.query<{ name: string }>("select name from replica_names order by name");
  expect(names.map((n) => n.name)).toEqual(["gone", "there"]);
});

test("messages are deleted once they came to their end long ago, whoever they were for; what waits stays", async () => {
  const project = await rows.project();
  const agent = await rows.agent({ project_id: project });
  const message = (over: Record<string, unknown>) => rows.message({ project_id: project, ...over });
  const day = 86_400;
  const old = { created: ago(1.5 * day) };
  const person = { recipient_id: uuid(), state: null };
  const gone = [
    await message({ ...old, agent_id: agent, state: "delivered", dispatched_at: ago(1.1 * day) }),
    await message({ ...old, agent_id: agent, state: "failed" }),
    await message({ ...old, ...person, read: true }),
    await message({ ...person, created: ago(2.1 * day) }),
  ];
  const kept = [
    await message({ ...old, agent_id: agent, state: "delivered", dispatched_at: ago(0.9 * day) }),
    await message({ ...old, agent_id: agent, state: "pending" }),
    await message({ ...old, ...person }),
    await message({ created: ago(0.5 * day), ...person, read: true }),
  ];
  // A tick looks through a share of the table; as many as a day has minutes look through all of it several times.
  let deleted = 0;
  for (let tick = 0; tick < 10; tick += 1) deleted += await run("oldMessages");
  expect(deleted).toBe(gone.length);
  const left = await db.query<{ id: string }>("select id from messages");
  expect(left.map((r) => r.id).toSorted()).toEqual(kept.toSorted());
});

test("a replica that has just started looks for old messages anywhere: restarts do not keep it to the first pages", async () => {
  const project = await rows.project();
  await db.query(
    `insert into messages (id, project_id, sender, recipient, msg, state, created, dispatched_at)
     select gen_random_uuid(), $1, 'user:x', 'agent:x', repeat('x', 1000), 'delivered', now() - interval '2 days',
       now() - interval '2 days' from generate_series(1, 700)`,
    [project],
  );
  const [{ pages } = { pages: 0 }] = await db.query<{ pages: number }>(
    "select (pg_relation_size('messages') / 8192)::int as pages",
  );
  expect(pages).toBeGreaterThan(50);
  const left = async () =>
    (
      await db.query<{ page: number }>("select distinct (ctid::text::point)[0]::int as page from messages order by 1")
    ).map((r) => r.page);
  fraction = 0.999;
  expect(await run("oldMessages")).toBeGreaterThan(0);
  expect(await left()).not.toContain(pages - 1);
  expect(await left()).toContain(Math.floor(pages / 2));
});
