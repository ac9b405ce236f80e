import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  createTestDatabase,
  eventually,
  type Seed,
  type StoreStack,
  type StoreStackOptions,
  seed,
  startStoreStack,
  startTransactionPooler,
  type TestDatabase,
} from "@rootstock/testkit";
import pg from "pg";
import { ChangeFeed } from "./changeFeed.ts";
import { EventBus } from "./eventBus.ts";
import type { HubEvent } from "./hubEvent.ts";

let db: TestDatabase;
let rows: Seed;
let stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
  rows = seed(db);
});
afterEach(async () => {
  for (const stop of stops.reverse()) await stop();
  stops = [];
  await db.drop();
});

const replica = async (options: StoreStackOptions = {}): Promise<StoreStack & { bus: EventBus }> => {
  const stack = await startStoreStack(db.url, options);
  stops.push(() => stack.stop());
  const bus = new EventBus(stack.base, stack);
  stops.push(() => bus.stop());
  await bus.start();
  return { ...stack, bus };
};

const collect = (bus: EventBus, pattern = ">") => {
  const events: HubEvent[] = [];
  bus.subscribe([pattern], (event) => events.push(event));
  return events;
};

test("what one replica commits and signals, the subscribers of another hear, by subject, until they leave", async () => {
  const [a, b] = [await replica(), await replica()];
  await eventually(() => b.listener.state().healthy);
  const all = collect(b.bus);
  const subjects: string[] = [];
  b.bus.subscribe(["grove.*.created", "project.>"], (_e, subject) => subjects.push(subject));
  b.bus.subscribe([">"], () => {
    throw new Error("a broken subscriber");
  });
  const gone = b.bus.subscribe([">"], () => subjects.push("gone"));
  gone();
  const p = await rows.project();
  a.signaller.changed();
  await eventually(() => all.length === 1);
  expect(subjects).toEqual([`project.${p}.created`]);
  await eventually(() => a.bus.stats().events === 1);
  expect(b.bus.stats().lagMs).toBeGreaterThanOrEqual(0);
});

test("invariant 6: signals are hints: with none sent and none heard, events come by the poll", async () => {
  const pooler = await startTransactionPooler(db.url);
  stops.push(() => pooler.stop());
  const deaf = await replica({ directUrl: pooler.url });
  const events = collect(deaf.bus);
  for (let i = 0; i < 5; i += 1) await rows.project();
  await eventually(() => events.length === 5);
});

test("the listen connection is cut while others write: nothing is missed", async () => {
  const r = await replica({ name: "cut" });
  const events = collect(r.bus);
  for (let i = 0; i < 20; i += 1) {
    await rows.project({ name: `n${i}` });
    if (i === 5)
      await db.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'cut-listener'",
      );
  }
  await eventually(() => events.length === 20);
  expect(events.map((e) => e.data.name)).toEqual(Array.from({ length: 20 }, (_, i) => `n${i}`));
});

test("while nobody listens nothing is read but the place is kept; who comes in the middle of a look misses nothing", async () => {
  const r = await replica();
  for (let i = 0; i < 3; i += 1) await rows.project({ name: `unheard ${i}` });
  await r.bus.catchUp();
  await eventually(() => r.bus.stats().events === 3);
  const before = r.bus.position();
  await rows.project({ name: "under way" });
  const looking = r.bus.catchUp();
  const events = collect(r.bus);
  await looking;
  expect(events.map((e) => e.data.name)).toEqual(["under way"]);
  await rows.project({ name: "later" });
  await eventually(() => events.length === 2);
  expect(r.bus.stats().events).toBe(5);
  // From the place that was kept, the same is read again.
  const { outcome } = await new ChangeFeed(r.database.db).read(before);
  expect(outcome.kind === "batch" && outcome.events.map((e) => e.data.name)).toEqual(["under way", "later"]);
});

test("who begins to want what changes all the time while a look passes it by misses nothing of it", async () => {
  const r = await replica({ name: "passing" });
  const project = await rows.project();
  await r.bus.catchUp();
  const writer = new pg.Client({ connectionString: db.url });
  await writer.connect();
  stops.push(() => writer.end());
  await writer.query("begin; lock table change_log in access exclusive mode");
  const inside = {
    ...db,
    query: async <T>(sql: string, values: readonly unknown[] = []) =>
      (await writer.query(sql, [...values])).rows as T[],
  };
  await seed(inside).agent({ project_id: project });
  const looking = r.bus.catchUp();
  await eventually(async () => {
    const waiting = await db.query(
      "select 1 from pg_stat_activity where application_name = 'passing' and wait_event_type = 'Lock'",
    );
    expect(waiting).not.toEqual([]);
  });
  const events = collect(r.bus, "agent.>");
  await writer.query("commit");
  await looking;
  expect(events).toHaveLength(1);
});

test("who wants none of what changes all the time hears of all else, in the middle of it or alone", async () => {
  const r = await replica();
  const renamed = collect(r.bus, "user.*.changed");
  const project = await rows.project();
  const added = await db.query<{ id: string }>(
    "insert into users (id, email) values (gen_random_uuid(), 'a@example.org'), (gen_random_uuid(), 'b@example.org') returning id",
  );
  const users = added.map(({ id }) => id);
  const agents = () => Promise.all(Array.from({ length: 5 }, () => rows.agent({ project_id: project })));
  const rename = (id?: string) => db.query("update users set role = 'admin' where id = $1", [id]);
  await r.bus.catchUp();
  await eventually(() => r.bus.stats().events >= 3);
  const before = r.bus.stats().events;
  await agents();
  await r.bus.catchUp();
  await eventually(() => r.bus.stats().events === before + 5);
  expect(renamed).toEqual([]);
  await agents();
  await rename(users[0]);
  await agents();
  await rename(users[1]);
  await r.bus.catchUp();
  await eventually(() => renamed.length === 2);
  expect(renamed.map((e) => e.entityId)).toEqual(users);
  await eventually(() => r.bus.stats().events === before + 17);
});

test("a reading that fails is repeated, and nothing is lost", async () => {
  const r = await replica();
  const events = collect(r.bus);
  await db.query("alter table feed_meta rename to hidden");
  await rows.project();
  await r.bus.catchUp();
  expect(events).toEqual([]);
  await db.query("alter table hidden rename to feed_meta");
  await eventually(() => events.length === 1);
});

test("after a restore into another cluster the epoch changes, the log is cleared, and the reader goes on from now", async () => {
  const r = await replica({ name: "restored" });
  const outcomes: string[] = [];
  r.bus.onOutcome((o) => outcomes.push(o.kind === "resync" ? o.reason : "batch"));
  const events = collect(r.bus);
  await rows.project();
  await eventually(() => events.length === 1);
  const before = r.bus.position().epoch;
  await db.query("update feed_meta set fingerprint = 'another cluster'");
  await db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'restored-listener'",
  );
  await eventually(() => outcomes.includes("epoch"));
  expect(r.bus.position().epoch).not.toBe(before);
  expect(await db.query("select 1 from change_log")).toEqual([]);
  await rows.project();
  await eventually(() => events.length === 2);
});

test("started and stopped in any order, it reads on", async () => {
  const r = await replica();
  await Promise.all([r.bus.stop(), r.bus.start(), r.bus.start(), r.bus.stop(), r.bus.start()]);
  const events = collect(r.bus);
  await rows.project();
  await eventually(() => events.length === 1);
  await r.bus.stop();
  await rows.project();
  await r.bus.catchUp();
  expect(events).toHaveLength(1);
});
