import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { buryReplica, migrate } from "@rootstock/store";
import {
  createTestDatabase,
  eventually,
  type Seed,
  type StoreStack,
  seed,
  startEmbeddedPostgres,
  startStoreStack,
  type TestDatabase,
  testBase,
} from "@rootstock/testkit";
import pg from "pg";
import { Membership } from "../replicas/index.ts";
import { type ReplicaReaperOptions, replicaReaper } from "./replicaReaper.ts";
import { Sweeper } from "./sweeper.ts";

let db: TestDatabase;
let rows: Seed;
let stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
  rows = seed(db);
});
afterEach(async () => {
  for (const stop of stops.reverse()) await stop();
  stops = [];
  await db.drop();
});

const replica = async (url = db.url, renewEveryMs = 100): Promise<StoreStack & { membership: Membership }> => {
  const stack = await startStoreStack(url);
  stops.push(() => stack.stop());
  const membership = new Membership(stack.base, {
    ...stack,
    name: "replica",
    internalUrl: null,
    version: "0.1.0",
    renewEveryMs,
  });
  stops.push(() => membership.stop());
  await membership.start();
  return { ...stack, membership };
};

const reaper = (r: StoreStack & { membership: Membership }, options: Partial<ReplicaReaperOptions> = {}) =>
  replicaReaper(r.base, { ...r, graceMs: 0, secondLookMs: 50, ...options });

const run = (sweep: ReturnType<typeof replicaReaper>) => sweep.runOnce(new AbortController().signal);
const ago = (seconds: number) => new Date(testBase().clock.now() - seconds * 1000);
const replicas = async () =>
  (await db.query<{ instance_id: string }>("select instance_id from hub_replicas")).map((r) => r.instance_id);
const uuid = () => systemRandom.uuid();

/** A replica that died with one runtime broker in its hands, and what it had claimed there. */
const deadReplica = async (over: Record<string, unknown> = {}) => {
  const instance = await rows.replica({ last_seen: ago(4), ...over });
  const session = uuid();
  const held = { connected_hub_id: instance, connected_session_id: session, connected_at: ago(60) };
  const rb = await rows.runtimeBroker({ status: "online", ...held });
  const project = await rows.project();
  const claim = { claimed_by: instance, claim_session: session, attempts: 1 };
  const dispatch = async (more: Record<string, unknown>) =>
    rows.dispatch({
      runtime_broker_id: rb,
      agent_id: await rows.agent({ project_id: project }),
      state: "in_progress",
      ...claim,
      ...more,
    });
  const agent = await rows.agent({ project_id: project, runtime_broker_id: rb });
  return {
    instance,
    session,
    rb,
    fresh: await dispatch({}),
    spent: await dispatch({ attempts: 3 }),
    late: await dispatch({ deadline_at: ago(1) }),
    message: await rows.message({
      project_id: project,
      agent_id: agent,
      runtime_broker_id: rb,
      state: "delivering",
      ...claim,
    }),
  };
};

test("invariant 1: no accepted work is lost: what a dead replica had claimed is pending again, and somebody is told", async () => {
  const r = await replica();
  const woken = new Set<string>();
  const done = new Set<string>();
  r.listener.onCommands((c) => {
    for (const [id] of c.wake) woken.add(id);
    for (const id of c.done) done.add(id);
  });
  const dead = await deadReplica();
  const elsewhere = await rows.runtimeBroker({
    status: "online",
    connected_hub_id: r.membership.instanceId,
    connected_session_id: uuid(),
    connected_at: ago(60),
  });
  expect(await run(reaper(r))).toBe(1);
  expect(await replicas()).toEqual([r.membership.instanceId]);
  const states = await db.query("select id, state, claimed_by, error from broker_dispatch");
  const of = (id: string) => states.find((s) => s.id === id);
  expect(of(dead.fresh)).toMatchObject({ state: "pending", claimed_by: null });
  expect(of(dead.spent)).toMatchObject({ state: "failed", error: expect.stringContaining("no attempts left") });
  expect(of(dead.late)).toMatchObject({ state: "failed", error: expect.stringContaining("too late") });
  expect(await db.query("select state, claimed_by, claim_session from messages")).toEqual([
    { state: "pending", claimed_by: null, claim_session: null },
  ]);
  const brokers = await db.query<{ id: string }>(
    "select id, connected_hub_id, connected_session_id, disconnected_at, status from runtime_brokers",
  );
  expect(brokers.find((b) => b.id === dead.rb)).toEqual({
    id: dead.rb,
    connected_hub_id: null,
    connected_session_id: null,
    disconnected_at: expect.any(Date),
    status: "online",
  });
  expect(brokers.find((b) => b.id === elsewhere)).toMatchObject({ connected_hub_id: r.membership.instanceId });
  await eventually(() => woken.has(dead.rb) && done.has(dead.spent) && done.has(dead.late));
});

test("two reapers at once bury once, and nobody buries the living", async () => {
  const [a, b] = [await replica(), await replica()];
  await deadReplica();
  const [x, y] = await Promise.all([run(reaper(a)), run(reaper(b))]);
  expect(x + y).toBe(1);
  expect((await replicas()).sort()).toEqual([a.membership.instanceId, b.membership.instanceId].sort());
});

test("a lock that is missing counts only when the replica was not seen for a while, and twice", async () => {
  const r = await replica();
  const quiet = await rows.replica({ last_seen: ago(1) });
  expect(await run(reaper(r))).toBe(0);
  await db.query("update hub_replicas set last_seen = $1 where instance_id = $2", [ago(4), quiet]);
  // It comes back between the two looks.
  const sweep = reaper(r, { secondLookMs: 300 });
  const running = run(sweep);
  await db.query("update hub_replicas set last_seen = now() where instance_id = $1", [quiet]);
  expect(await running).toBe(0);
  expect(await replicas()).toContain(quiet);
});

test("a replica that is seen again before its burial begins is not buried", async () => {
  const r = await replica();
  const back = await rows.replica({ last_seen: ago(2) });
  const bury = () => buryReplica(r.database.db, back, { leaseSeconds: 10, unseenSeconds: 3 });
  expect(await bury()).toBeUndefined();
  expect(await replicas()).toContain(back);
  await db.query("update hub_replicas set last_seen = $1 where instance_id = $2", [ago(4), back]);
  expect(await bury()).toEqual({ wake: [], failed: [] });
});

test("a replica that holds its lock is spared while its lease lasts, and not after: it hangs", async () => {
  const [r, hung] = [await replica(), await replica()];
  await hung.membership.stop();
  await rows.replica({
    instance_id: hung.membership.instanceId,
    lock_key: String(hung.coordination.lockKey),
    last_seen: ago(8),
  });
  expect(await run(reaper(r))).toBe(0);
  await db.query("update hub_replicas set last_seen = $1 where instance_id = $2", [
    ago(11),
    hung.membership.instanceId,
  ]);
  expect(await run(reaper(r))).toBe(1);
  // Resumed, it finds its row gone and registers again.
  await hung.membership.start();
  expect(await replicas()).toContain(hung.membership.instanceId);
});

test("invariant 5: an old connection never speaks for a newer one: a runtime broker that has moved on stays where it is", async () => {
  const r = await replica();
  const dead = await deadReplica();
  const session = uuid();
  await db.query("update runtime_brokers set connected_hub_id = $1, connected_session_id = $2 where id = $3", [
    r.membership.instanceId,
    session,
    dead.rb,
  ]);
  expect(await run(reaper(r))).toBe(1);
  expect(await db.query("select connected_session_id, disconnected_at from runtime_brokers")).toEqual([
    { connected_session_id: session, disconnected_at: null },
  ]);
  expect(await db.query("select 1 from messages where state = 'pending'")).toHaveLength(1);
});

test("a claim that the dead replica is still committing is waited for, and given back with the rest", async () => {
  const r = await replica();
  const dead = await deadReplica();
  await db.query(
    "update broker_dispatch set state = 'pending', claimed_by = null, claim_session = null where id = $1",
    [dead.fresh],
  );
  const hanging = new pg.Client({ connectionString: db.url });
  await hanging.connect();
  try {
    await hanging.query("begin");
    await hanging.query("select 1 from runtime_brokers where id = $1 for share", [dead.rb]);
    await hanging.query(
      "update broker_dispatch set state = 'in_progress', claimed_by = $2, claim_session = $3 where id = $1",
      [dead.fresh, dead.instance, dead.session],
    );
    const running = run(reaper(r));
    await eventually(async () => {
      const waiting = await db.query(
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      return waiting.length > 0;
    });
    await hanging.query("commit");
    expect(await running).toBe(1);
  } finally {
    await hanging.end();
  }
  expect(await db.query("select state from broker_dispatch where id = $1", [dead.fresh])).toEqual([
    { state: "pending" },
  ]);
});

test("while its own coordination connection is young or down, a reaper judges nobody", async () => {
  const r = await replica();
  const dead = await deadReplica({ last_seen: ago(60) });
  const sweep = reaper(r, { graceMs: 60_000 });
  expect(await run(sweep)).toBe(0);
  await r.coordination.stop();
  expect(await run(reaper(r))).toBe(0);
  expect(await replicas()).toContain(dead.instance);
});

test("after a time in which the database took no writes, the living are spared until they have renewed their leases", async () => {
  const r = await replica();
  await rows.replica({ last_seen: ago(11) });
  const sweep = reaper(r, { graceMs: 500 });
  await eventually(() => r.coordination.heldForMs() >= 500);
  await db.query(`create function refuse() returns trigger language plpgsql as $$ begin
    raise exception 'cannot execute UPDATE in a read-only transaction' using errcode = '25006'; end $$`);
  await db.query("create trigger refuse before update on hub_replicas for each statement execute function refuse()");
  await eventually(() => r.membership.renewedForMs() === 0);
  await db.query("drop trigger refuse on hub_replicas");
  await eventually(() => r.membership.renewedForMs() > 0);
  expect(await run(sweep)).toBe(0);
  await eventually(async () => expect(await run(sweep)).toBe(1));
});

test("after a restart of the database the living are spared and come back; the dead are buried", async () => {
  const server = await startEmbeddedPostgres();
  stops.push(() => server.stop());
  await migrate({ url: server.url, log: testBase().log });
  const all = await Promise.all([1, 2, 3].map(() => replica(server.url, 1_500)));
  const reregistered: string[] = [];
  for (const { membership } of all) membership.onReregistered(() => reregistered.push(membership.instanceId));
  const sweepers = all.map(
    (r) => new Sweeper(r.base, { ...r, sweeps: [{ ...reaper(r, { graceMs: 2_000 }), intervalMs: 100 }] }),
  );
  for (const s of sweepers) {
    stops.push(() => s.stop());
    await s.start();
  }
  const query = async (sql: string, values: unknown[] = []) => {
    const client = new pg.Client({ connectionString: server.url });
    client.on("error", () => {});
    await client.connect();
    const result = await client.query(sql, values);
    await client.end();
    return result.rows;
  };
  const gone = uuid();
  await query(
    "insert into hub_replicas (instance_id, lock_key, name, version, last_seen) values ($1, 7000000000, 'gone', '0', now() + interval '2 seconds')",
    [gone],
  );
  await server.restart();
  // As after a long outage: nobody has been seen lately, and nobody holds a lock yet.
  await query("update hub_replicas set last_seen = now() - interval '1 hour'").catch(() => {});
  await eventually(async () => {
    const left = await query("select instance_id from hub_replicas where instance_id = $1", [gone]);
    return left.length === 0 && all.every((r) => r.coordination.held() && r.membership.mayClaim());
  }, 25_000);
  expect(reregistered).toEqual([]);
  const ids = (await query("select instance_id from hub_replicas")).map((row) => row.instance_id);
  expect(ids.sort()).toEqual(all.map((r) => r.membership.instanceId).sort());
  expect(all.every((r) => r.listener.state().connected)).toBe(true);
});
