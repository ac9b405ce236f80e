import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTestStore, type TestStore } from "@rootstock/testkit";
import type { Db } from "../database.ts";
import { chargeBuckets, deleteFullBuckets, takeFromBuckets } from "./rateBuckets.ts";

let store: TestStore;
let replicas: readonly Db[];
beforeAll(async () => {
  store = await createTestStore();
  replicas = [store.db, store.another().db, store.another().db];
});
afterAll(() => store.drop());

const SLOW = { capacity: 100, perSecond: 0.001 };
const db = (n = 0): Db => {
  const replica = replicas[n];
  if (!replica) throw new Error("no such replica");
  return replica;
};

test("however many take at once at three replicas, no more is given than there is", async () => {
  const takings = Array.from({ length: 300 }, (_, i) => takeFromBuckets(db(i % 3), SLOW, [{ key: "one", amount: 1 }]));
  const granted = (await Promise.all(takings)).map(([taken]) => taken?.granted ?? 0);
  expect(granted.filter((n) => n === 1)).toHaveLength(100);
  expect(granted.filter((n) => n === 0)).toHaveLength(200);
});

test("slices: as much as is left, and how long until there is one again", async () => {
  const take = (amount: number) => takeFromBuckets(db(), SLOW, [{ key: "slices", amount }]);
  const [some] = await take(60);
  expect(some).toMatchObject({ granted: 60, waitMs: 0 });
  expect(some?.fullInMs).toBeCloseTo(60_000_000, 0);
  expect((await take(60))[0]?.granted).toBe(40);
  const [empty] = await take(60);
  expect(empty?.granted).toBe(0);
  expect(empty?.waitMs).toBeGreaterThan(900_000);
  expect(empty?.waitMs).toBeLessThan(1_010_000);
});

test("a bucket fills by itself up to its capacity, and is forgotten when it has long been full", async () => {
  const bucket = { capacity: 10, perSecond: 1 };
  const take = (amount: number) => takeFromBuckets(db(), bucket, [{ key: "filling", amount }]);
  expect((await take(10))[0]?.granted).toBe(10);
  expect((await take(1))[0]?.granted).toBe(0);
  const pass = (seconds: number) =>
    store.query("update rate_buckets set full_at = full_at - make_interval(secs => $1) where key = 'filling'", [
      seconds,
    ]);
  await pass(3.5);
  expect((await take(4))[0]?.granted).toBe(3);
  await pass(1_000);
  expect((await take(10))[0]?.granted).toBe(10);
  await pass(1_000);
  expect(await deleteFullBuckets(db(), 100)).toBe(1);
});

test("many buckets in one statement, in any order, by replicas that meet in them", async () => {
  const keys = Array.from({ length: 50 }, (_, i) => `many ${i}`);
  const rounds = Array.from({ length: 30 }, (_, i) =>
    takeFromBuckets(
      db(i % 3),
      SLOW,
      (i % 2 === 0 ? keys : [...keys].reverse()).map((key) => ({ key, amount: 5 })),
    ),
  );
  const given = (await Promise.all(rounds)).flat().reduce((sum, taken) => sum + taken.granted, 0);
  expect(given).toBe(50 * 100);
});

test("what is spent already is taken whole, and what a bucket owes is made up for before it gives again", async () => {
  const bucket = { capacity: 10, perSecond: 0.001 };
  const charge = (amount: number) => chargeBuckets(db(), bucket, [{ key: "owing", amount }]);
  const pass = (seconds: number) =>
    store.query("update rate_buckets set full_at = full_at - make_interval(secs => $1) where key = 'owing'", [seconds]);
  expect((await charge(25))[0]).toMatchObject({ granted: 25 });
  const [owing] = await charge(5);
  expect(owing?.granted).toBe(5);
  // 20 below nothing: 21 until there is one, 30 until it is full.
  expect((owing?.waitMs ?? 0) / 1_000_000).toBeCloseTo(21, 2);
  expect((owing?.fullInMs ?? 0) / 1_000_000).toBeCloseTo(30, 2);
  await pass(20_500);
  expect((await takeFromBuckets(db(), bucket, [{ key: "owing", amount: 1 }]))[0]?.granted).toBe(0);
  await pass(1_000);
  expect((await takeFromBuckets(db(), bucket, [{ key: "owing", amount: 5 }]))[0]?.granted).toBe(1);
});
