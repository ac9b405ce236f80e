import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Uuid } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { agentAccessRules, Database, type Db, userAccessRules } from "@rootstock/store";
import { createTestDatabase, seed, type TestDatabase, testLog } from "@rootstock/testkit";
import { sql } from "kysely";
import { writeManyGroups } from "./plans/manyGroups.ts";

/**
 * What somebody's rights cost to read while the server knows nothing of the tables: by plans that were made for empty
 * ones, and by plans made before anything was analyzed. Those that read all policies took from 8 to 700 ms.
 */

const TABLES = ["users", "agents", "groups", "group_memberships", "policies", "policy_bindings"];
const userId: Uuid = systemRandom.uuid();

let database: TestDatabase;
let agentId: Uuid;
/** Its statements were planned while there was nothing to read. */
let early: Database;
const opened: Database[] = [];

const open = (): Database => {
  const store = new Database({
    url: database.url,
    pooled: false,
    poolSize: 1,
    applicationName: "early",
    clock: systemClock,
    log: testLog(),
  });
  opened.push(store);
  return store;
};
const ofPerson = (db: Db) => userAccessRules(db, userId);
const ofAgent = (db: Db) => agentAccessRules(db, { id: agentId, ancestry: [userId] });

/** A statement is kept, with its plan, once it has come a few times. */
const keepPlans = async ({ db }: Database): Promise<void> => {
  for (let i = 0; i < 5; i += 1) {
    await ofPerson(db);
    await ofAgent(db);
  }
};

beforeAll(async () => {
  database = await createTestDatabase();
  for (const table of TABLES)
    await database.query(`alter table ${table} set (autovacuum_enabled = false), disable trigger user`);
  await database.query("insert into users (id, email) values ($1, 'ann@example.org')", [userId]);
  const rows = seed(database);
  agentId = await rows.agent({ project_id: await rows.project() });
  early = open();
  await keepPlans(early);
  await writeManyGroups(database, { userId, agentId });
});
afterAll(async () => {
  for (const store of opened) await store.stop();
  await database.drop();
});

/** How many rows and index entries of the tables all connections have read so far. */
const readSoFar = async (db: Db): Promise<number> => {
  await sql`select pg_stat_force_next_flush()`.execute(db);
  const [row] = await database.query<{ n: number }>(
    `select ((select sum(idx_tup_read) from pg_stat_user_indexes where relname = any($1))
           + (select sum(seq_tup_read) from pg_stat_user_tables where relname = any($1)))::int as n`,
    [TABLES],
  );
  return row?.n ?? Number.NaN;
};

test.each([
  ["by a plan for empty tables", () => early],
  ["by a plan made without statistics", open],
])("somebody's groups and policies are looked up one by one %s", async (_, of) => {
  const store = of();
  await keepPlans(store);
  for (const read of [ofPerson, ofAgent]) {
    const before = await readSoFar(store.db);
    const { groups, policies } = await read(store.db);
    expect(Math.min(groups.length, policies.length)).toBeGreaterThan(8);
    expect((await readSoFar(store.db)) - before).toBeLessThan(400);
  }
});

test("next to nothing is expected of the look-ups: no room is made for millions, and nothing is compiled", async () => {
  const store = open();
  await keepPlans(store);
  await sql`set plan_cache_mode = force_generic_plan`.execute(store.db);
  const { rows: kept } = await sql<{ name: string; values: number }>`
    select name, cardinality(parameter_types) as values from pg_prepared_statements where statement like '%"effective"%'
  `.execute(store.db);
  expect(kept).toHaveLength(2);
  for (const { name, values } of kept) {
    const nothing = Array.from({ length: values }, () => "null").join(", ");
    const { rows } = await sql
      .raw<{ "QUERY PLAN": readonly [{ Plan: { "Total Cost": number } }] }>(
        `explain (format json) execute "${name}" (${nothing})`,
      )
      .execute(store.db);
    const cost = rows[0]?.["QUERY PLAN"][0].Plan["Total Cost"];
    // What `jit_above_cost` is unless somebody has changed it.
    expect(cost).toBeLessThan(100_000);
  }
});
