import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { createTestDatabase, leftByMinorCollections, type TestDatabase, testLog } from "@rootstock/testkit";
import { sql } from "kysely";
import { Database } from "./database.ts";
import { PreparedStatements } from "./preparedStatements.ts";
import { transaction } from "./tx.ts";

let database: TestDatabase;
let store: Database;

beforeEach(async () => {
  database = await createTestDatabase({ migrated: false });
  await database.query("create table things (id int primary key, name text)");
  await database.query("insert into things values (1, 'one')");
  // One connection: whatever is prepared is prepared on it.
  store = new Database({
    url: database.url,
    pooled: false,
    poolSize: 1,
    applicationName: "prepared",
    clock: systemClock,
    log: testLog(),
  });
});
afterEach(async () => {
  await store.stop();
  await database.drop();
});

const find = async (db = store.db): Promise<unknown> =>
  (await sql`select * from things where id = ${1}`.execute(db)).rows;

const keptStatements = async (): Promise<number> => {
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from pg_prepared_statements`.execute(store.db);
  return rows[0]?.n ?? 0;
};

test("a statement that comes again and again is kept by the server, under one name", async () => {
  for (let i = 0; i < 10; i += 1) expect(await find()).toEqual([{ id: 1, name: "one" }]);
  expect(await keptStatements()).toBe(1);
});

test("statements made on the fly are not kept without end", () => {
  const statements = new PreparedStatements();
  const names = new Set<string>();
  for (let i = 0; i < 1_000; i += 1)
    for (let times = 0; times < 5; times += 1) {
      const name = statements.nameOf(`select ${i}`);
      if (name !== undefined) names.add(name);
    }
  expect(names.size).toBeLessThan(300);
});

test("a column added by a newer replica fails no statement, neither alone nor in a transaction", async () => {
  for (let i = 0; i < 5; i += 1) await find();
  await database.query("alter table things add column color text default 'red'");
  expect(await find()).toEqual([{ id: 1, name: "one", color: "red" }]);
  for (let i = 0; i < 5; i += 1) await find();
  await database.query("alter table things drop column color");
  expect(await transaction(store.db, (tx) => find(tx as typeof store.db))).toEqual([{ id: 1, name: "one" }]);
});

test("a server that has forgotten the statements, as behind a pooling proxy, is asked without them", async () => {
  for (let i = 0; i < 5; i += 1) await find();
  await sql`deallocate all`.execute(store.db);
  expect(await find()).toEqual([{ id: 1, name: "one" }]);
  for (let i = 0; i < 5; i += 1) expect(await find()).toEqual([{ id: 1, name: "one" }]);
  expect(await keptStatements()).toBe(0);
});

test("what a statement returned goes with the next small collection, and is not kept until a full one", async () => {
  const read = () => sql`select repeat('x', ${20_000}) as text`.execute(store.db);
  expect(await leftByMinorCollections(1_000, read)).toBeLessThan(5);
});
