import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  type Seed,
  type StoreStack,
  seed,
  startStoreStack,
  type TestDatabase,
} from "@rootstock/testkit";
import pg from "pg";
import { ChangeFeed, positionAfter } from "./changeFeed.ts";
import type { HubEvent } from "./hubEvent.ts";
import { decodePosition, encodePosition, type Position } from "./position.ts";

let db: TestDatabase;
let stack: StoreStack;
let rows: Seed;
const clients: pg.Client[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
  stack = await startStoreStack(db.url);
  rows = seed(db);
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.end();
  await stack.stop();
  await db.drop();
});

const connect = async (): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString: db.url });
  client.on("error", () => {});
  clients.push(client);
  await client.connect();
  return client;
};

const through = (p: Position): Position => {
  const decoded = decodePosition(encodePosition(p));
  if (!decoded) throw new Error("a position of our own was not understood");
  return decoded;
};

test("invariant 7: events are complete: a change that commits after a later one was read is not skipped", async () => {
  const feed = new ChangeFeed(stack.database.db);
  let at = await feed.head();
  const slow = await connect();
  await slow.query("begin");
  await slow.query("insert into projects (id, name, slug) values ($1, 'early', 'early')", [systemRandom.uuid()]);
  await rows.project({ name: "late" });
  const read = async () => {
    const { outcome } = await feed.read(at);
    at = outcome.to;
    return outcome.kind === "batch" ? outcome.events.map((e) => e.data.name) : [outcome.reason];
  };
  expect(await read()).toEqual(["late"]);
  await rows.project({ name: "later" });
  expect(await read()).toEqual(["later"]);
  await slow.query("commit");
  expect(await read()).toEqual(["early"]);
  expect(await read()).toEqual([]);
});

test("invariant 7: events are complete and ordered: 16 writers, rollbacks, an open writer, a reader that dies in the middle of batches", async () => {
  const writers = 16;
  const rounds = 60;
  const projects = await Promise.all(Array.from({ length: 8 }, () => rows.project({ name: "0" })));
  const feed = new ChangeFeed(stack.database.db, 7);
  let at = await feed.head();

  const open = await connect();
  await open.query("begin");
  const [openProject] = projects.splice(0, 1);
  await open.query("update projects set name = '1' where id = $1", [openProject]);

  let committed = 0;
  const write = async (client: pg.Client): Promise<void> => {
    for (let i = 0; i < rounds; i += 1) {
      const project = projects[Math.floor(systemRandom.fraction() * projects.length)];
      const rollBack = systemRandom.fraction() < 0.1;
      await client.query("begin");
      await client.query("update projects set name = (name::int + 1)::text where id = $1", [project]);
      // A released savepoint writes under another transaction id than its top-level transaction.
      await client.query("savepoint s");
      await client.query("update projects set name = (name::int + 1)::text where id = $1", [project]);
      await client.query("release s");
      await client.query(rollBack ? "rollback" : "commit");
      if (!rollBack) committed += 2;
    }
  };
  const seen: HubEvent[] = [];
  let writing = true;
  const reader = (async () => {
    // Once more after the last commit, until there is nothing left.
    for (let last = false; ; last = !writing) {
      const { outcome } = await new ChangeFeed(stack.database.db, 7).read(through(at));
      if (outcome.kind !== "batch") throw new Error(outcome.reason);
      const dies = systemRandom.fraction() < 0.3;
      const take = dies ? Math.floor(systemRandom.fraction() * outcome.events.length) : outcome.events.length;
      seen.push(...outcome.events.slice(0, take));
      if (take === outcome.events.length) at = outcome.to;
      else if (take > 0) at = positionAfter(outcome, take - 1);
      if (last && outcome.events.length === 0 && !outcome.to.page) return;
    }
  })();
  const connected = await Promise.all(Array.from({ length: writers }, connect));
  await Promise.all(connected.map(write));
  await open.query("commit");
  writing = false;
  await reader;

  expect(seen).toHaveLength(committed + 1);
  for (const project of projects) {
    const names = seen.filter((e) => e.entityId === project).map((e) => Number(e.data.name));
    expect(names).toEqual(Array.from(names, (_, i) => i + 1));
  }
  expect(seen.filter((e) => e.entityId === openProject).map((e) => e.data.name)).toEqual(["1"]);
});

test("a position within a change resumes with the rest of that change, even when its receivers changed meanwhile", async () => {
  const rb = await rows.runtimeBroker();
  const ids = (await Promise.all([rows.project(), rows.project(), rows.project()])).sort();
  const serve = (p: string | undefined) =>
    db.query("insert into project_providers (project_id, runtime_broker_id) values ($1, $2)", [p, rb]);
  await serve(ids[1]);
  await serve(ids[2]);
  const feed = new ChangeFeed(stack.database.db);
  const at = await feed.head();
  await db.query("update runtime_brokers set status = 'online'");
  const { outcome } = await feed.read(at);
  if (outcome.kind !== "batch") throw new Error(outcome.reason);
  expect(outcome.events.map((e) => e.origin.part)).toEqual(["", ids[1], ids[2]]);
  const cutHere = through(positionAfter(outcome, 1));
  // A provider that sorts before those told already must not shift the count.
  await serve(ids[0]);
  const rest = await feed.read(cutHere);
  if (rest.outcome.kind !== "batch") throw new Error(rest.outcome.reason);
  expect(rest.outcome.events.map((e) => e.origin.part)).toEqual([ids[2]]);
  const next = await feed.read(through(rest.outcome.to));
  expect(next.outcome).toMatchObject({ kind: "batch", events: [{ entity: "provider" }] });
});

test("positions that were pruned, of another history, or of the future are refused, each by its name", async () => {
  const feed = new ChangeFeed(stack.database.db);
  const at = await feed.head();
  await rows.project();
  await db.query("update feed_meta set pruned_tx = pg_snapshot_xmax($1::pg_snapshot)", [at.seen.text]);
  expect((await feed.read(at)).outcome).toMatchObject({ kind: "resync", reason: "pruned" });
  await db.query("update feed_meta set pruned_tx = '0'");
  expect((await feed.read({ ...at, epoch: systemRandom.uuid() })).outcome).toMatchObject({ reason: "epoch" });
  const xmax = at.seen.xmax + 1_000_000n;
  const future = through({ ...at, seen: { ...at.seen, text: `${xmax}:${xmax}:`, xmin: xmax, xmax, xip: new Set() } });
  const { outcome } = await feed.read(future);
  expect(outcome).toMatchObject({ kind: "resync", reason: "future" });
  expect((await feed.read(outcome.to)).outcome).toMatchObject({ kind: "batch", events: [] });
});
