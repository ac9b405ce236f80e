import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { createTestStore, type TestStore, testLog } from "@rootstock/testkit";
import { SharedLimit } from "./index.ts";
import { databaseAway, holdBuckets, movedClock, refusedFor } from "./limits.testing.ts";

let store: TestStore;
beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());

const RULE = { burst: 100, perSecond: 0.01 };
const limit = ({ clock = systemClock as Clock, db = store.another().db } = {}) =>
  new SharedLimit({ db, clock, log: testLog(), name: "failure", rule: RULE, refused: () => {} });
const passes = async (one: SharedLimit, whom: string) => (await refusedFor(() => one.demand(whom))) === 0;
const count = (answers: readonly boolean[]) => answers.filter(Boolean).length;

test("three replicas give no more than there is, however many ask at once, and each whom it is meant for", async () => {
  const replicas = [limit(), limit(), limit()];
  const answers = await Promise.all(
    Array.from({ length: 1_200 }, async (_, i) => {
      const replica = replicas[i % 3];
      const whom = i % 2 === 0 ? "ann" : `other ${i}`;
      return { whom, passed: replica !== undefined && (await passes(replica, whom)) };
    }),
  );
  expect(count(answers.filter(({ whom }) => whom === "ann").map(({ passed }) => passed))).toBe(100);
  expect(answers.filter(({ whom, passed }) => whom !== "ann" && !passed)).toEqual([]);
  for (const replica of replicas) expect(await passes(replica, "ann")).toBe(false);
});

test("who is refused is remembered without asking, until there is one again", async () => {
  const { clock, move } = movedClock();
  const one = limit({ clock });
  const answers = await Promise.all(Array.from({ length: 500 }, () => passes(one, "flood")));
  expect(count(answers)).toBe(100);
  const release = await holdBuckets(store);
  // Known: answered though the database is not to be asked.
  expect(await refusedFor(() => one.demand("flood"))).toBe(100);
  move(99_000);
  expect(await refusedFor(() => one.demand("flood"))).toBe(1);
  await release();
  await store.query("update rate_buckets set full_at = full_at - interval '101 seconds'");
  move(2_000);
  expect(await passes(one, "flood")).toBe(true);
  expect(await passes(one, "flood")).toBe(false);
});

test("without the database, and while it hangs, nobody is refused for it nor waits for long", async () => {
  const away = databaseAway();
  const without = limit({ db: away.db });
  for (let i = 0; i < 3; i += 1) expect(await passes(without, "nobody")).toBe(true);
  await away.stop();

  let waitsMs = 0;
  let over = () => {};
  const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      waitsMs = ms;
      over = resolve;
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
  const hanging = limit({ clock: { ...systemClock, sleep } });
  const release = await holdBuckets(store);
  const first = passes(hanging, "bea");
  expect(waitsMs).toBe(5_000);
  over();
  expect(await first).toBe(true);
  await release();
  await hanging.idle();
  // What was given up is counted all the same.
  const answers: boolean[] = [];
  for (let i = 0; i < 100; i += 1) answers.push(await passes(hanging, "bea"));
  expect(count(answers)).toBe(99);
});
