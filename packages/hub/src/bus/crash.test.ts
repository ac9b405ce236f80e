import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { migrate } from "@rootstock/store";
import {
  databaseAt,
  type OwnedPostgres,
  type StoreStack,
  seed,
  startEmbeddedPostgres,
  startStoreStack,
  type TestDatabase,
  testLog,
} from "@rootstock/testkit";
import { ChangeFeed } from "./changeFeed.ts";
import { EventBus } from "./eventBus.ts";

/** A crash forgets transactions that were ended and not yet on disk; later ones get their ids once more. */

let postgres: OwnedPostgres;
let db: TestDatabase;
const stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  // What is not waited for gets to the disk long after the test.
  postgres = await startEmbeddedPostgres({ wal_writer_delay: "10s" });
  await migrate({ url: postgres.url, log: testLog() });
  db = databaseAt(postgres.url);
});
afterEach(async () => {
  for (const stop of stops.reverse().splice(0)) await stop();
  await postgres.stop();
});

/** A replica's reader, from its start to its end. */
const reader = async (): Promise<{ readonly stack: StoreStack; readonly bus: EventBus; stop(): Promise<void> }> => {
  const stack = await startStoreStack(postgres.url);
  const bus = new EventBus(stack.base, stack);
  await bus.start();
  const stop = async () => {
    await bus.stop();
    await stack.stop();
  };
  return { stack, bus, stop };
};

/** A position that has seen the ends of transactions of which the disk does not know. */
const positionBeyondTheDisk = async () => {
  const { bus, stop } = await reader();
  for (let i = 0; i < 3; i += 1)
    await db.query(
      "do $$ begin set local synchronous_commit = off; perform pg_current_xact_id(); update sweeps set next_at = next_at; end $$",
    );
  await bus.catchUp();
  const position = bus.position();
  await stop();
  return position;
};

test("after a crash that forgot transactions, whoever comes back with a position that knew them is told to read anew", async () => {
  const at = await positionBeyondTheDisk();
  await postgres.crash();
  await postgres.bringUp();
  // Enough for the ids that were forgotten, and for some that were not.
  const rows = seed(db);
  for (let i = 0; i < 8; i += 1) await rows.project({ name: `after ${i}` });
  const { stack, stop } = await reader();
  stops.push(stop);
  const { outcome } = await new ChangeFeed(stack.database.db).read(at);
  expect(outcome).toMatchObject({ kind: "resync", reason: "epoch" });
});

test("after a restart that forgot nothing, positions go on", async () => {
  const at = await positionBeyondTheDisk();
  await postgres.takeDown();
  await postgres.bringUp();
  await seed(db).project({ name: "after" });
  const { stack, stop } = await reader();
  stops.push(stop);
  const { outcome } = await new ChangeFeed(stack.database.db).read(at);
  const names = outcome.kind === "batch" ? outcome.events.map((e) => e.data.name) : outcome.reason;
  expect(names).toContain("after");
});
