import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { createTestDatabase, eventually, startTransactionPooler, type TestDatabase, testLog } from "@rootstock/testkit";
import { Database } from "./database.ts";
import { Listener } from "./listener.ts";
import { Signaller } from "./signaller.ts";
import type { Commands } from "./signals.ts";

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

const build = (options: { url?: string; directUrl?: string; probeTimeoutMs?: number; probeEveryMs?: number } = {}) => {
  const database = new Database({
    url: options.url ?? db.url,
    pooled: false,
    poolSize: 4,
    applicationName: "listener-test",
    ...base,
  });
  const signaller = new Signaller({ database, clock: systemClock, log: testLog() });
  const listener = new Listener(base, {
    directUrl: db.url,
    database,
    applicationName: "the-listener",
    probeEveryMs: 200,
    ...options,
  });
  const heard: Commands[] = [];
  const changes: boolean[] = [];
  listener.onCommands((c) => heard.push(c));
  listener.onChanges(({ hurry }) => changes.push(hurry));
  stops.push(
    () => database.stop(),
    () => listener.stop(),
    () => signaller.stop(),
  );
  return { database, signaller, listener, heard, changes: () => changes.length, hurries: changes };
};

const healthy = (listener: Listener) =>
  listener.state().healthy ? Promise.resolve(listener.state()) : listener.changes.next((s) => s.healthy);

test("signals arrive, merged, and the probe tells how long they take", async () => {
  const { signaller, listener, heard, changes } = build();
  await listener.start();
  expect(listener.fallbackPollMs()).toBe(250);
  const state = await healthy(listener);
  expect(state.roundTripMs).toBeGreaterThan(0);
  expect(listener.fallbackPollMs()).toBe(1000);

  const ids = Array.from({ length: 500 }, () => systemRandom.uuid());
  const before = changes();
  for (const id of ids) {
    signaller.wake([id]);
    signaller.changed();
  }
  signaller.done(ids.slice(0, 1));
  const woken = () => heard.flatMap((c) => [...c.wake].map(([id]) => id));
  await eventually(() => woken().length >= ids.length && heard.some((c) => c.done.length > 0));
  expect(new Set(woken())).toEqual(new Set(ids));
  expect(heard.flatMap((c) => c.done)).toEqual(ids.slice(0, 1));
  expect(changes()).toBeGreaterThan(before);
  // What is signalled in one turn goes together: one statement for 1,001 signals.
  await eventually(() => expect(signaller.stats()).toEqual({ sent: 1, lost: 0 }));
});

test("a change without hurry goes with the next signal, and is read without hurry then, or by itself a moment later", async () => {
  const { signaller, listener, heard, hurries } = build();
  await listener.start();
  await healthy(listener);
  heard.length = 0;
  const told = async (...tell: readonly (() => void)[]) => {
    hurries.length = 0;
    const { sent } = signaller.stats();
    for (const one of tell) one();
    await eventually(() => hurries.length > 0 && signaller.stats().sent > sent);
    return { hurries: [...hurries], statements: signaller.stats().sent - sent };
  };
  const [hurried, unhurried] = [() => signaller.changed(), () => signaller.changedUnhurried()];
  const wake = () => signaller.wake([systemRandom.uuid()]);
  expect(await told(unhurried, wake)).toEqual({ hurries: [false], statements: 1 });
  expect(heard).toHaveLength(1);
  // It has waited already.
  expect(await told(unhurried, unhurried)).toEqual({ hurries: [true], statements: 1 });
  expect(await told(unhurried, hurried)).toEqual({ hurries: [true], statements: 1 });
  expect(await told(hurried, unhurried)).toEqual({ hurries: [true], statements: 1 });
});

test("a change without hurry is not lost when its replica stops", async () => {
  const { signaller, listener, hurries } = build();
  await listener.start();
  await healthy(listener);
  hurries.length = 0;
  signaller.changedUnhurried();
  await signaller.stop();
  await eventually(() => expect(hurries).toHaveLength(1));
});

test("the listen connection is cut: degraded, then reconnected, then told to look at everything", async () => {
  const { signaller, listener, heard, changes } = build();
  await listener.start();
  await healthy(listener);
  heard.length = 0;
  const before = changes();
  let connects = 0;
  listener.onConnected(() => {
    connects += 1;
  });
  const degraded = listener.changes.next((s) => !s.healthy);
  await db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'the-listener'",
  );
  await degraded;
  await healthy(listener);
  expect(heard.some((c) => c.everything)).toBe(true);
  expect(changes()).toBeGreaterThan(before);
  expect(connects).toBe(1);
  const id = systemRandom.uuid();
  signaller.wake([id]);
  await eventually(() => heard.some((c) => [...c.wake].some(([woken]) => woken === id)));
});

test("a listener that fails to handle a signal harms neither the others nor the connection", async () => {
  const { signaller, listener, heard } = build();
  listener.onCommands(() => {
    throw new Error("broken");
  });
  const late: Commands[] = [];
  listener.onCommands((c) => late.push(c));
  await listener.start();
  signaller.wake([systemRandom.uuid()]);
  await eventually(() => late.some((c) => c.wake.size === 1));
  expect(heard.length).toBe(late.length);
});

test("behind a transaction pooler LISTEN succeeds and delivers nothing: signals are degraded and say so", async () => {
  const pooler = await startTransactionPooler(db.url);
  stops.push(() => pooler.stop());
  const { listener, heard } = build({ directUrl: pooler.url, probeTimeoutMs: 100 });
  await listener.start();
  // It redials because it hears nothing, and asks to look at everything each time.
  await eventually(() => heard.filter((c) => c.everything).length >= 2);
  expect(listener.state().healthy).toBe(false);
  expect(listener.fallbackPollMs()).toBe(250);
});

test("a listener that cannot connect at first says so, and may be started and stopped in any order", async () => {
  const { listener } = build({ directUrl: "postgres://nobody@127.0.0.1:1/none" });
  await expect(listener.start()).rejects.toThrow();
  const good = build().listener;
  await Promise.all([good.start(), good.stop(), good.start(), good.start(), good.stop(), good.stop()]);
  const open = () =>
    db.query("select 1 from pg_stat_activity where datname = current_database() and application_name = 'the-listener'");
  await eventually(async () => (await open()).length === 0);
});

test("a failing NOTIFY is lost, not thrown and not repeated", async () => {
  const { signaller } = build({ url: "postgres://nobody@127.0.0.1:1/none" });
  signaller.wake([systemRandom.uuid()]);
  signaller.changed();
  await signaller.stop();
  expect(signaller.stats().sent).toBe(0);
  expect(signaller.stats().lost).toBeGreaterThan(0);
});
