import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { createTestDatabase, eventually, startTransactionPooler, type TestDatabase, testLog } from "@rootstock/testkit";
import pg from "pg";
import { Coordination } from "./coordination.ts";
import { LOCK_KEYS, newReplicaLockKey } from "./locks.ts";

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

const started = async (directUrl = db.url, strayAfterMs = 10_000) => {
  const coordination = new Coordination(base, { directUrl, applicationName: "coordination-test", strayAfterMs });
  stops.push(() => coordination.stop());
  await coordination.start();
  return coordination;
};

const locksOf = (key: bigint) =>
  db.query(
    "select 1 from pg_locks where locktype = 'advisory' and (classid::bigint << 32 | objid::bigint) = $1 and objsubid = 1",
    [String(key)],
  );

const cut = () =>
  db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'coordination-test'",
  );

test("the replica's lock is there while the connection is, and comes back with it", async () => {
  const coordination = await started();
  expect(coordination.held()).toBe(true);
  expect(coordination.pooled()).toBe(false);
  expect(await locksOf(coordination.lockKey)).toHaveLength(1);
  const seen: boolean[] = [];
  coordination.onChange((held) => seen.push(held));
  await cut();
  await eventually(() => seen.length === 2);
  expect(seen).toEqual([false, true]);
  expect(await locksOf(coordination.lockKey)).toHaveLength(1);
  expect(coordination.heldForMs()).toBeLessThan(2_000);
  await coordination.stop();
  expect(coordination.held()).toBe(false);
  await eventually(async () => (await locksOf(coordination.lockKey)).length === 0);
});

test("a sweep's lock is granted to one at a time, across replicas and within one", async () => {
  const [a, b] = [await started(), await started()];
  let release = () => {};
  const busy = new Promise<void>((resolve) => {
    release = resolve;
  });
  let begun = () => {};
  const began = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const first = a.withLock("changeLog", async () => {
    begun();
    await busy;
    return "done";
  });
  await began;
  expect(await b.withLock("changeLog", async () => "ran")).toBeUndefined();
  expect(await a.withLock("changeLog", async () => "ran")).toBeUndefined();
  expect(await b.withLock("joinTokens", async () => "another")).toBe("another");
  release();
  expect(await first).toBe("done");
  expect(await b.withLock("changeLog", async () => "ran")).toBe("ran");
  await expect(a.withLock("changeLog", () => Promise.reject(new Error("sweep failed")))).rejects.toThrow(
    "sweep failed",
  );
  expect(await b.withLock("changeLog", async () => "free again")).toBe("free again");
});

test("work under a lock is told when the connection is lost, and another replica gets the lock", async () => {
  const a = await started();
  let lost = false;
  const work = a.withLock("changeLog", async (signal) => {
    const told = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await cut();
    await told;
    lost = !a.held();
  });
  await work;
  expect(lost).toBe(true);
  const b = await started();
  expect(await b.withLock("changeLog", async () => "ran")).toBe("ran");
});

test("behind a transaction pooler it is found to be pooled, and nothing runs under locks that guard nothing", async () => {
  const pooler = await startTransactionPooler(db.url);
  stops.push(() => pooler.stop());
  const coordination = await started(pooler.url);
  expect(coordination.pooled()).toBe(true);
  expect(coordination.held()).toBe(true);
  expect(await coordination.withLock("changeLog", async () => "ran")).toBeUndefined();
});

test("a pooler that hands the same server connection to the next in turn is found as well", async () => {
  const pooler = await startTransactionPooler(db.url, 1);
  stops.push(() => pooler.stop());
  expect((await started(pooler.url)).pooled()).toBe(true);
});

/** Somebody who holds the lock of a sweep, and perhaps one of a replica that was last seen `seenAgo`. */
const holder = async (seenAgo?: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString: db.url });
  client.on("error", () => {});
  stops.push(() => client.end().catch(() => {}));
  await client.connect();
  await client.query("select pg_advisory_lock($1::bigint)", [LOCK_KEYS.changeLog]);
  if (seenAgo === undefined) return client;
  const key = String(newReplicaLockKey(systemRandom));
  await client.query("select pg_advisory_lock($1::bigint)", [key]);
  await db.query(
    `insert into hub_replicas (instance_id, lock_key, name, version, last_seen)
     values (gen_random_uuid(), $1, 'holder', '0', now() - $2::interval)`,
    [key, seenAgo],
  );
  return client;
};

test.each([
  ["left behind in a pooler", undefined],
  ["held by a replica that was paused in the middle", "11 seconds"],
])("a sweep's lock that is %s does not stop the sweep for good", async (_, seenAgo) => {
  const coordination = await started(db.url, 100);
  await holder(seenAgo);
  expect(await coordination.withLock("changeLog", async () => "ran")).toBeUndefined();
  await eventually(async () => (await coordination.withLock("changeLog", async () => "ran")) === "ran");
  expect(coordination.held()).toBe(true);
});

test("a sweep's lock is left to a living replica, however long it takes", async () => {
  const coordination = await started(db.url, 0);
  const client = await holder("1 second");
  for (let i = 0; i < 5; i += 1) expect(await coordination.withLock("changeLog", async () => "ran")).toBeUndefined();
  await client.query("select pg_advisory_unlock($1::bigint)", [LOCK_KEYS.changeLog]);
  expect(await coordination.withLock("changeLog", async () => "ran")).toBe("ran");
});

test("started and stopped in any order, nothing is left", async () => {
  const coordination = await started();
  await Promise.all([coordination.stop(), coordination.start(), coordination.start(), coordination.stop()]);
  await Promise.all([coordination.start(), coordination.stop()]);
  await eventually(async () => {
    const rows = await db.query(
      "select 1 from pg_stat_activity where datname = current_database() and application_name = 'coordination-test'",
    );
    return rows.length === 0;
  });
  const refused = new Coordination(base, { directUrl: "postgres://nobody@127.0.0.1:1/none", applicationName: "x" });
  await expect(refused.start()).rejects.toThrow();
  await refused.stop();
});
