import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { createTestStore, eventually, type TestStore, testLog } from "@rootstock/testkit";
import { DeferredLimit, type RateRule } from "./index.ts";
import { databaseAway, holdBuckets, movedClock, refusedFor } from "./limits.testing.ts";
import { bucketKey } from "./sharedLimit.ts";

let store: TestStore;
beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());

/** Nothing comes back while a test runs. */
const slow = (burst: number): RateRule => ({ burst, perSecond: 0.0001 });
const limit = (rule: RateRule, { clock = movedClock().clock, db = store.db } = {}) =>
  new DeferredLimit({ db, clock, log: testLog(), name: "principal", rule, refused: () => {} });
const replicasOf = (rule: RateRule, clock?: Clock) =>
  Array.from({ length: 3 }, () => limit(rule, { db: store.another().db, ...(clock && { clock }) }));
const passes = async (one: DeferredLimit, whom: string) => (await refusedFor(() => one.spend(whom))) === 0;

/** How many of `calls` pass, each at the next replica, all of which hear of it before the next one. */
const passed = async (replicas: readonly DeferredLimit[], whom: string, calls: number): Promise<number> => {
  let count = 0;
  for (let i = 0; i < calls; i += 1) {
    const replica = replicas[i % replicas.length];
    if (!replica || !(await passes(replica, whom))) continue;
    count += 1;
    await replica.flush();
  }
  return count;
};

test("one replica lets through the budget exactly", async () => {
  for (const burst of [1, 5, 300]) expect(await passed([limit(slow(burst))], `user:exact${burst}`, 400)).toBe(burst);
});

test.each([1, 5, 20, 100])(
  "three replicas let through a budget of %i between them, and one more each while the database is asked",
  async (burst) => {
    const count = await passed(replicasOf(slow(burst)), `user:few${burst}`, 3 * burst + 30);
    expect(count).toBeGreaterThanOrEqual(burst);
    expect(count).toBeLessThanOrEqual(burst + 2);
  },
);

test("whoever comes in a flood gets no more at three replicas than burst + 2 * (1 % + what is under way)", async () => {
  const replicas = replicasOf(slow(1_000));
  let count = 0;
  const UNDER_WAY = 20;
  for (let round = 0; round < 200; round += 1) {
    for (let i = 0; i < UNDER_WAY; i += 1)
      for (const replica of replicas) if (await passes(replica, "user:flood")) count += 1;
    await Promise.all(replicas.map((replica) => replica.flush()));
  }
  expect(count).toBeGreaterThanOrEqual(1_000);
  expect(count).toBeLessThanOrEqual(1_000 + 2 * (10 + UNDER_WAY));
});

test("what one replica let through counts at another that has never met the caller: nothing is free", async () => {
  const [a, b, c] = replicasOf(slow(1_000));
  if (!a || !b || !c) throw new Error("three replicas");
  for (let i = 0; i < 1_000; i += 1) expect(await passes(a, "user:moving")).toBe(true);
  await a.flush();
  for (const other of [b, c]) {
    // What it lets through while it asks for the first time is the one that makes it ask.
    expect(await passes(other, "user:moving")).toBe(true);
    await other.flush();
    for (let i = 0; i < 50; i += 1) expect(await passes(other, "user:moving")).toBe(false);
  }
  expect(await passes(b, "user:somebody else")).toBe(true);
});

test("what was let through too much is made up for, and a refusal is over when the bucket has refilled", async () => {
  const { clock, move } = movedClock();
  const rule = { burst: 10, perSecond: 0.01 };
  const replicas = replicasOf(rule, clock);
  const key = bucketKey("principal", "user:owing");
  const pass = async (seconds: number) => {
    move(seconds * 1_000);
    await store.query("update rate_buckets set full_at = full_at - make_interval(secs => $1) where key = $2", [
      seconds,
      key,
    ]);
  };
  // All at once, before any of them has heard of the others: the database owes them nothing for a long time.
  for (const replica of replicas)
    for (let i = 0; i < 10; i += 1) expect(await passes(replica, "user:owing")).toBe(true);
  for (const replica of replicas) await replica.flush();
  const refusals = await Promise.all(replicas.map((replica) => refusedFor(() => replica.spend("user:owing"))));
  // 20 below nothing, as the one knows who told last.
  expect(Math.max(...refusals)).toBe(2_100);
  const last = replicas[refusals.indexOf(2_100)];
  if (!last) throw new Error("three replicas");
  await pass(2_095);
  expect(await passes(last, "user:owing")).toBe(false);
  await pass(6);
  expect(await passed([last], "user:owing", 3)).toBe(1);
  // After a long time there is a burst for all of them together.
  await pass(100_000);
  expect(await passed(replicas, "user:owing", 40)).toBeLessThanOrEqual(12);
});

test("by itself it tells soon where little is left, and in a while where there is much", async () => {
  const { clock, move } = movedClock();
  /** In how many milliseconds it will tell. */
  let dueMs = 0;
  const after: Clock["after"] = (ms) => {
    dueMs = ms;
    return { cancel: () => {} };
  };
  const little = limit(slow(5), { clock: { ...clock, after } });
  const much = limit(slow(100_000), { clock: { ...clock, after } });
  for (const [one, pauseMs] of [
    [little, 10],
    [much, 100],
  ] as const) {
    one.spend("user:due");
    // After a pause it does not wait for more than the call itself.
    expect(dueMs).toBe(2);
    await one.flush();
    one.spend("user:due");
    expect(dueMs).toBe(pauseMs);
    move(60_000);
  }
  await much.flush();
  for (let i = 0; i < 998; i += 1) much.spend("user:due");
  await much.flush();
  for (let i = 0; i < 970; i += 1) much.spend("user:due");
  expect(dueMs).toBe(100);
  for (let i = 0; i < 30; i += 1) much.spend("user:due");
  expect(dueMs).toBe(10);
  await Promise.all([little.flush(), much.flush()]);
});

test("many who call at once are told of before long, each with what is theirs", async () => {
  const rule = slow(1_000);
  const one = limit(rule, { clock: systemClock });
  for (let i = 0; i < 2_000; i += 1) one.spend(`user:told${i}`);
  one.spend("user:told0");
  const spent = async (whom: string): Promise<number> => {
    const [row] = await store.query<{ debt: string }>(
      "select extract(epoch from full_at - now()) as debt from rate_buckets where key = $1",
      [bucketKey("principal", whom)],
    );
    return Math.ceil(Number(row?.debt ?? 0) * rule.perSecond);
  };
  await eventually(async () => (await spent("user:told1999")) === 1 && (await spent("user:told0")) === 2);
});

test("without the database nobody is refused for it, and it is counted again once it is back", async () => {
  const away = databaseAway();
  const one = limit(slow(100), { db: away.db });
  expect(await passed([one], "user:away", 150)).toBe(100);
  await away.stop();
});

test("while the database hangs nobody waits for it, nor is refused within the budget", async () => {
  const replica = limit(slow(100), { db: store.another().db });
  const release = await holdBuckets(store);
  expect(await passes(replica, "user:hanging")).toBe(true);
  const telling = replica.flush();
  for (let i = 0; i < 99; i += 1) expect(await passes(replica, "user:hanging")).toBe(true);
  // What went through here alone is the whole budget.
  expect(await passes(replica, "user:hanging")).toBe(false);
  let over = false;
  const told = telling.then(() => {
    over = true;
  });
  await release();
  // Nor does the answer, which knows of the first alone, make the others forgotten.
  while (!over) {
    expect(await passes(replica, "user:hanging")).toBe(false);
    await store.query("select 1");
  }
  await told;
  const another = limit(slow(100), { db: store.another().db });
  expect(await passes(another, "user:hanging")).toBe(true);
  await another.flush();
  expect(await passes(another, "user:hanging")).toBe(false);
});
