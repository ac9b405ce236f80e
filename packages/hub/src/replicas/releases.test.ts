import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createTestStore, eventually, seed, type TestStore, testBase } from "@rootstock/testkit";
import { comesBefore, Releases } from "./releases.ts";

const base = testBase();
let store: TestStore;
let releases: Releases;
beforeEach(async () => {
  store = await createTestStore();
  releases = new Releases(base, { database: store.database, lookEveryMs: 10 });
});
afterEach(async () => {
  await releases.stop();
  await store.drop();
});

test("until it has looked there may be older replicas; a replica that comes or goes is noticed", async () => {
  expect(releases.olderThan("0.2.0")).toBe(true);
  await releases.start();
  expect(releases.olderThan("0.2.0")).toBe(false);
  await seed(store).replica({ version: "0.1.9" });
  await eventually(() => releases.olderThan("0.2.0"));
  expect(releases.olderThan("0.1.9")).toBe(false);
  await store.query("update hub_replicas set version = '0.10.0'");
  await eventually(() => !releases.olderThan("0.2.0"));
});

test("a replica that has gone may come back for ten minutes", async () => {
  await releases.start();
  expect(releases.recentlyOlderThan("0.2.0")).toBe(false);
  await seed(store).replica({ version: "0.1.9" });
  await eventually(() => releases.recentlyOlderThan("0.2.0"));
  await store.query("delete from hub_replicas");
  await eventually(() => !releases.olderThan("0.2.0"));
  await store.query("update replica_names set gone_at = now() - interval '590 seconds'");
  await releases.stop();
  const later = new Releases(base, { database: store.database, lookEveryMs: 10 });
  await later.start();
  expect([later.olderThan("0.2.0"), later.recentlyOlderThan("0.2.0")]).toEqual([false, true]);
  await store.query("update replica_names set gone_at = now() - interval '610 seconds'");
  await eventually(() => !later.recentlyOlderThan("0.2.0"));
  await later.stop();
});

test.each([
  ["0.1.0", "0.2.0", true],
  ["0.2.0", "0.2.0", false],
  ["0.10.0", "0.2.0", false],
  ["1.0.0", "0.2.0", false],
  ["0.2.0-rc.1", "0.2.0", false],
  ["dev", "0.2.0", true],
  ["", "0.2.0", true],
])("%j before %j: %j", (a, b, before) => {
  expect(comesBefore(a, b)).toBe(before);
});
