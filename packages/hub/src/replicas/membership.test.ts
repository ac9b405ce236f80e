import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { Uuid } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { Coordination, Database } from "@rootstock/store";
import { createTestDatabase, eventually, type TestDatabase, testLog } from "@rootstock/testkit";
import { Membership, type MembershipOptions } from "./membership.ts";

const base = { clock: systemClock, random: systemRandom, log: testLog() };
let db: TestDatabase;
let stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
});
afterEach(async () => {
  for (const stop of stops.reverse()) await stop();
  stops = [];
  await db.drop();
});

const build = async (options: Partial<MembershipOptions> = {}) => {
  const database = new Database({ url: db.url, pooled: false, poolSize: 2, applicationName: "member", ...base });
  const coordination = new Coordination(base, { directUrl: db.url, applicationName: "member-coordination" });
  const membership = new Membership(base, {
    database,
    coordination,
    name: "one",
    internalUrl: null,
    version: "0.1.0",
    renewEveryMs: 50,
    ...options,
  });
  for (const service of [database, coordination, membership]) {
    stops.push(() => service.stop());
    await service.start();
  }
  return { database, coordination, membership };
};

interface Row {
  instance_id: Uuid;
  lock_key: string;
  state: string;
  last_seen: Date;
}
const rows = () => db.query<Row>("select * from hub_replicas");

test("a replica is registered with its lock, renews its lease, tells that it drains, and leaves", async () => {
  const { membership, coordination } = await build();
  const [row] = await rows();
  expect(row).toMatchObject({
    instance_id: membership.instanceId,
    lock_key: String(coordination.lockKey),
    state: "serving",
  });
  expect(membership.mayClaim()).toBe(true);
  await eventually(async () => ((await rows())[0]?.last_seen ?? 0) > (row?.last_seen ?? 0));
  await membership.drain();
  expect((await rows())[0]?.state).toBe("draining");
  await membership.stop();
  expect(await rows()).toEqual([]);
  expect(membership.mayClaim()).toBe(false);
});

test("a replica that was taken for dead registers again as the same instance, and says so", async () => {
  const { membership } = await build();
  let reregistered = 0;
  membership.onReregistered(() => {
    reregistered += 1;
  });
  await membership.drain();
  await db.query("delete from hub_replicas");
  await eventually(() => reregistered === 1);
  expect(await rows()).toMatchObject([{ instance_id: membership.instanceId, state: "draining" }]);
  expect(membership.mayClaim()).toBe(true);
});

test("without its coordination connection a replica claims nothing until it has it back", async () => {
  const { membership, coordination } = await build();
  const lost = new Promise<boolean>((resolve) => {
    coordination.onChange((held) => resolve(!held && !membership.mayClaim()));
  });
  await db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'member-coordination'",
  );
  expect(await lost).toBe(true);
  await eventually(() => membership.mayClaim());
});

test("coordination lost for too long while the database answers: it gives its sockets away, once", async () => {
  const { membership, coordination } = await build({ suspendAfterMs: 200 });
  let suspended = 0;
  membership.onSuspended(() => {
    suspended += 1;
  });
  await coordination.stop();
  await eventually(() => suspended === 1);
  const seen = (await rows())[0]?.last_seen ?? 0;
  await eventually(async () => ((await rows())[0]?.last_seen ?? 0) > seen);
  expect(suspended).toBe(1);
  await coordination.start();
  await coordination.stop();
  await eventually(() => suspended === 2);
});

test("a lease that could not be renewed ends the right to claim, but gives no socket away at once", async () => {
  const { membership } = await build({ leaseMs: 300, suspendAfterMs: 1 });
  let suspended = 0;
  membership.onSuspended(() => {
    suspended += 1;
  });
  await db.query("alter table hub_replicas rename to gone");
  await eventually(() => !membership.mayClaim());
  expect(suspended).toBe(0);
  await db.query("alter table gone rename to hub_replicas");
  await eventually(() => membership.mayClaim());
});

test("what a leaving replica had claimed goes back at once", async () => {
  const { membership } = await build();
  const [project, broker, agent, session, dispatch, message] = Array.from({ length: 6 }, () => systemRandom.uuid());
  await db.query("insert into projects (id, name, slug) values ($1, 'p', 'p')", [project]);
  await db.query(
    `insert into runtime_brokers (id, name, slug, status, connected_hub_id, connected_session_id, connected_at)
     values ($1, 'b', 'b', 'online', $2, $3, now())`,
    [broker, membership.instanceId, session],
  );
  await db.query("insert into agents (id, project_id, slug, name, runtime_broker_id) values ($1, $2, 'a', 'a', $3)", [
    agent,
    project,
    broker,
  ]);
  await db.query(
    `insert into broker_dispatch (id, runtime_broker_id, agent_id, op, state, claimed_by, claim_session, attempts, deadline_at)
     values ($1, $2, $3, 'stop', 'in_progress', $4, $5, 1, now() + interval '1 minute')`,
    [dispatch, broker, agent, membership.instanceId, session],
  );
  await db.query(
    `insert into messages (id, project_id, agent_id, runtime_broker_id, sender, recipient, msg, state, claimed_by, claim_session)
     values ($1, $2, $3, $4, 'user:u', 'agent:a', 'hi', 'delivering', $5, $6)`,
    [message, project, agent, broker, membership.instanceId, session],
  );
  let woken: readonly Uuid[] = [];
  membership.onLeft((legacy) => {
    woken = legacy.wake;
  });
  await membership.stop();
  expect(woken).toEqual([broker]);
  expect(await db.query("select state from broker_dispatch union all select state from messages")).toEqual([
    { state: "pending" },
    { state: "pending" },
  ]);
  const [rb] = await db.query("select connected_hub_id, disconnected_at from runtime_brokers");
  expect(rb).toMatchObject({ connected_hub_id: null, disconnected_at: expect.any(Date) });
});

test("started and stopped in any order, no row is left", async () => {
  const { membership } = await build();
  await Promise.all([membership.stop(), membership.start(), membership.drain(), membership.start(), membership.stop()]);
  await membership.stop();
  expect(await rows()).toEqual([]);
});
