import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  createTestDatabase,
  eventually,
  type StoreStack,
  startStoreStack,
  startTransactionPooler,
  type TestDatabase,
} from "@rootstock/testkit";
import { type Sweep, Sweeper } from "./sweeper.ts";

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

const replica = async (directUrl = db.url): Promise<StoreStack> => {
  const stack = await startStoreStack(db.url, { directUrl });
  stops.push(() => stack.stop());
  return stack;
};
const sweeper = (stack: StoreStack, ...sweeps: Sweep[]) => new Sweeper(stack.base, { ...stack, sweeps });
const never = () => new AbortController().signal;

test("of three replicas that tick at once, one runs the sweep, once per interval", async () => {
  let runs = 0;
  const sweep: Sweep = {
    name: "joinTokens",
    intervalMs: 60_000,
    runOnce: async () => {
      runs += 1;
      return 1;
    },
  };
  const all = (await Promise.all([replica(), replica(), replica()])).map((stack) => sweeper(stack, sweep));
  const ticks = await Promise.all(all.map((s) => s.tick(sweep, never())));
  expect(ticks.sort()).toEqual(["not due", "not due", "ran"]);
  expect(await Promise.all(all.map((s) => s.tick(sweep, never())))).toEqual(Array(3).fill("not due"));
  expect(runs).toBe(1);
  await db.query("update sweeps set next_at = '-infinity'");
  expect((await Promise.all(all.map((s) => s.tick(sweep, never())))).sort()).toEqual(["not due", "not due", "ran"]);
});

test("a sweep that outlasts its interval is not joined by another, there or here", async () => {
  const [a, b] = [await replica(), await replica()];
  let finish = () => {};
  let begun = false;
  const held = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const sweep: Sweep = {
    name: "joinTokens",
    intervalMs: 0,
    runOnce: async () => {
      begun = true;
      await held;
      return 0;
    },
  };
  const [onA, onB] = [sweeper(a, sweep), sweeper(b, sweep)];
  const first = onA.tick(sweep, never());
  await eventually(() => begun);
  expect(await onB.tick(sweep, never())).toBe("busy");
  expect(await onA.tick(sweep, never())).toBe("busy");
  finish();
  expect(await first).toBe("ran");
});

test("without its guard a replica skips the tick and leaves the turn to others", async () => {
  const [a, b] = [await replica(), await replica()];
  const sweep: Sweep = { name: "joinTokens", intervalMs: 60_000, runOnce: async () => 0 };
  await a.coordination.stop();
  expect(await sweeper(a, sweep).tick(sweep, never())).toBe("unguarded");
  expect(await sweeper(b, sweep).tick(sweep, never())).toBe("ran");
});

test("a sweep is told when its lock is lost", async () => {
  const a = await replica();
  let told = false;
  const sweep: Sweep = {
    name: "joinTokens",
    intervalMs: 0,
    runOnce: async (signal) => {
      const lost = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      await db.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like '%coordination'",
      );
      await lost;
      told = true;
      return 0;
    },
  };
  await sweeper(a, sweep).tick(sweep, never());
  expect(told).toBe(true);
});

test("behind a pooler the turn alone decides, and one at a time within a replica", async () => {
  const pooler = await startTransactionPooler(db.url);
  stops.push(() => pooler.stop());
  const a = await replica(pooler.url);
  let runs = 0;
  let finish = () => {};
  const held = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const sweep: Sweep = {
    name: "joinTokens",
    intervalMs: 0,
    runOnce: async () => {
      runs += 1;
      await held;
      return 0;
    },
  };
  const s = sweeper(a, sweep);
  const first = s.tick(sweep, never());
  await eventually(() => runs === 1);
  expect(await s.tick(sweep, never())).toBe("busy");
  finish();
  expect(await first).toBe("ran");
  expect(await s.tick(sweep, never())).toBe("ran");
});

test("a failing sweep is tried again, and stopping waits for the one under way", async () => {
  const a = await replica();
  let runs = 0;
  const failing: Sweep = {
    name: "joinTokens",
    intervalMs: 1,
    runOnce: async () => {
      runs += 1;
      throw new Error("not today");
    },
  };
  let running = false;
  const long: Sweep = {
    name: "seenNonces",
    intervalMs: 1,
    runOnce: async (signal) => {
      running = true;
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      running = false;
      return 0;
    },
  };
  const s = sweeper(a, failing, long);
  await s.start();
  await eventually(() => runs > 2 && running);
  await Promise.all([s.stop(), s.stop()]);
  expect(running).toBe(false);
  await s.start();
  await s.start();
  await s.stop();
  const after = runs;
  await db.query("select 1");
  expect(runs).toBe(after);
});
