import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Clock, silentLog, systemClock } from "@rootstock/service";
import { Database } from "@rootstock/store";
import { createTestStore, type TestStore, testBase } from "@rootstock/testkit";
import { LeasedBudget, RateLimited } from "./index.ts";

let store: TestStore;
beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());

/** Time stands still for what replicas give by themselves. */
const still: Clock = { ...systemClock, elapsed: () => 1_000_000 };
const RULE = { burst: 1_000, perSecond: 0.01 };
const budget = (refused: () => void = () => {}, db = store.db) =>
  new LeasedBudget({ db, clock: still, log: silentLog(), name: "principal", rule: RULE, refused });

const passes = (one: LeasedBudget, whom: string): boolean => {
  try {
    one.spend(whom);
    return true;
  } catch (err) {
    if (err instanceof RateLimited) return false;
    throw err;
  }
};

test("replicas share one budget: what they let through together is bounded, and most calls ask nobody", async () => {
  const replicas = [budget(), budget(), budget()];
  const count = async () => {
    let passed = 0;
    for (let i = 0; i < 3_000; i += 1) {
      const replica = replicas[i % 3];
      if (replica && passes(replica, "user:ann")) passed += 1;
      if (i % 10 === 0) await Promise.all(replicas.map((r) => r.idle()));
    }
    return passed;
  };
  const passed = await count();
  // burst + replicas * (free + 2 * slice), and not much less than the burst.
  expect(passed).toBeLessThanOrEqual(1_000 + 3 * (20 + 2 * 20));
  expect(passed).toBeGreaterThan(1_000);
  expect(passes(budget(), "user:bea")).toBe(true);
});

test("who asks little is never in the database", async () => {
  const one = budget();
  for (let i = 0; i < 20; i += 1) expect(passes(one, "user:quiet")).toBe(true);
  await one.idle();
  const before = await store.query("select key from rate_buckets");
  expect(passes(one, "user:quiet")).toBe(true);
  await one.idle();
  expect((await store.query("select key from rate_buckets")).length).toBe(before.length + 1);
});

test("without the database nobody is refused for it", async () => {
  const away = new Database({
    url: "postgres://nobody@127.0.0.1:1/none",
    pooled: false,
    poolSize: 1,
    applicationName: "test",
    ...testBase(),
  });
  const one = budget(() => {}, away.db);
  let refused = 0;
  for (let i = 0; i < 300; i += 1) {
    if (!passes(one, "user:cid")) refused += 1;
    if (i % 10 === 0) await one.idle();
  }
  expect(refused).toBe(0);
  await away.stop();
});
