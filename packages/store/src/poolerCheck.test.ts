import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { createTestDatabase, type TestDatabase, testLog, transactionPoolers } from "@rootstock/testkit";
import { sql } from "kysely";
import pg from "pg";
import { Database } from "./database.ts";
import { leadsThroughPooler } from "./poolerCheck.ts";

let db: TestDatabase;
let stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  db = await createTestDatabase({ migrated: false });
});
afterEach(async () => {
  for (const stop of stops.reverse()) await stop();
  stops = [];
  await db.drop();
});

test("a direct way is told from none", async () => {
  expect(await leadsThroughPooler(db.url)).toBe(false);
  expect(await leadsThroughPooler("postgres://nobody@127.0.0.1:1/none")).toBe(false);
});

test.each(transactionPoolers())(
  "$name is found, and neither session settings nor prepared statements reach it",
  async ({ start }) => {
    const pooler = await start(db.url, 1);
    stops.push(() => pooler.stop());
    expect(await leadsThroughPooler(pooler.url)).toBe(true);
    const database = new Database({
      url: pooler.url,
      // As when DATABASE_DIRECT_URL is not set.
      pooled: false,
      poolSize: 2,
      applicationName: "pooler-check",
      clock: systemClock,
      log: testLog(),
    });
    stops.push(() => database.stop());
    await database.start();
    for (let i = 0; i < 5; i += 1) {
      const { rows } = await sql<{ n: number }>`select ${i}::int as n`.execute(database.db);
      expect(rows).toEqual([{ n: i }]);
    }
    // The one server connection, as the next client finds it.
    const next = new pg.Client({ connectionString: pooler.url });
    stops.push(() => next.end());
    await next.connect();
    const { rows } = await next.query(
      `select current_setting('statement_timeout') as timeout, current_setting('enable_seqscan') as seqscan,
              (select count(*)::int from pg_prepared_statements) as prepared`,
    );
    expect(rows).toEqual([{ timeout: "0", seqscan: "on", prepared: 0 }]);
  },
);
