import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { Uuid } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { Database, Listener, Signaller } from "@rootstock/store";
import { createTestDatabase, eventually, startTransactionPooler, type TestDatabase, testLog } from "@rootstock/testkit";
import { CommandBus } from "./commandBus.ts";

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

const replica = async (directUrl = db.url) => {
  const database = new Database({ url: db.url, pooled: false, poolSize: 2, applicationName: "bus", ...base });
  const signaller = new Signaller({ database, ...base });
  const listener = new Listener(base, { directUrl, database, applicationName: "bus", probeTimeoutMs: 100 });
  const bus = new CommandBus(base, { signaller, listener });
  for (const service of [database, signaller, listener, bus]) {
    stops.push(() => service.stop());
    await service.start();
  }
  const woken = new Set<Uuid>();
  const ended = new Set<Uuid>();
  let looks = 0;
  bus.onWake((wakes) => {
    for (const [id] of wakes) woken.add(id);
  });
  bus.onDone((ids) => ids.forEach((id) => void ended.add(id)));
  bus.onLookAtEverything(() => {
    looks += 1;
  });
  return { bus, listener, woken, ended, looks: () => looks };
};

test("what one replica tells, every replica hears, itself included", async () => {
  const [a, b] = [await replica(), await replica()];
  const [broker, dispatch] = [systemRandom.uuid(), systemRandom.uuid()];
  a.bus.wake([broker]);
  a.bus.done([dispatch]);
  for (const r of [a, b]) await eventually(() => r.woken.has(broker) && r.ended.has(dispatch));
});

test("invariant 6: signals are hints: a deaf replica is told to look by the fallback poll, four times a second", async () => {
  const pooler = await startTransactionPooler(db.url);
  stops.push(() => pooler.stop());
  const deaf = await replica(pooler.url);
  deaf.bus.wake([systemRandom.uuid()]);
  const started = systemClock.elapsed();
  const looks = deaf.looks();
  await eventually(() => deaf.looks() >= looks + 4);
  expect(systemClock.elapsed() - started).toBeLessThan(3_000);
  expect(deaf.woken.size).toBe(0);
});

test("the poll goes on while signals work, once a second, and ends with stop", async () => {
  const r = await replica();
  await eventually(() => r.listener.state().healthy);
  const looks = r.looks();
  await eventually(() => r.looks() >= looks + 2);
  await Promise.all([r.bus.stop(), r.bus.start(), r.bus.stop()]);
  const off = r.bus.onWake(() => {});
  off();
  const after = r.looks();
  r.bus.wake([systemRandom.uuid()]);
  await r.listener.stop();
  expect(r.looks()).toBe(after);
});
