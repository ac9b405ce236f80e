import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { createTestDatabase, eventually, type TestDatabase } from "@rootstock/testkit";
import { type CompiledQuery, Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import type { Tables } from "../tables.ts";
import { currentPosition, readChanges, startNewEpoch, verifyHistory } from "./changes.ts";
import { pruneChangeLog } from "./sweeps.ts";

let test_db: TestDatabase;
let db: Kysely<Tables>;
let pool: pg.Pool;
let queries: CompiledQuery[] = [];

beforeEach(async () => {
  test_db = await createTestDatabase();
  pool = new pg.Pool({ connectionString: test_db.url, max: 3 });
  // A connection that is still closing when the database is dropped says so.
  pool.on("error", () => {});
  db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }), log: (event) => void queries.push(event.query) });
  queries = [];
});
afterEach(async () => {
  await db.destroy();
  await test_db.drop();
});

const insertChanges = (n: number) =>
  test_db.query(
    `do $$ begin for i in 1..${n} loop
       insert into change_log (entity, entity_id, op) values ('other', gen_random_uuid(), 'I');
       commit; end loop; end $$`,
  );

test("a look for news reads by index alone, with a writer open since 20,000 rows ago, and so does each page", async () => {
  const open = await pool.connect();
  try {
    await open.query("begin");
    await open.query("insert into projects (id, name, slug) values ($1, 'open', 'open')", [systemRandom.uuid()]);
    const { seen: start } = await currentPosition(db);
    await insertChanges(20_000);
    await test_db.query("vacuum analyze change_log");
    const { seen } = await currentPosition(db);
    await insertChanges(3);
    queries = [];
    const news = await readChanges(db, { seen, limit: 100 });
    expect(news.rows).toHaveLength(3);
    const page = { target: seen, afterId: String(Number(news.rows[0]?.id) - 5_000), inclusive: false };
    expect((await readChanges(db, { seen: start, page, limit: 100 })).rows).toHaveLength(100);
    for (const query of [...queries]) {
      const plan = await pool.query(`explain (analyze, buffers, costs off, timing off) ${query.sql}`, [
        ...query.parameters,
      ]);
      const text = plan.rows.map((r) => r["QUERY PLAN"]).join("\n");
      expect(text).not.toContain("Seq Scan on change_log");
      expect(Number(/shared hit=(\d+)/.exec(text)?.[1])).toBeLessThan(500);
    }
    await open.query("commit");
    expect((await readChanges(db, { seen: news.now, limit: 100 })).rows).toMatchObject([{ entity: "project" }]);
  } finally {
    open.release();
  }
});

test("the history is recorded once, and a database that came from elsewhere starts a new epoch, once", async () => {
  const epoch = async () => (await currentPosition(db)).epoch;
  const first = await epoch();
  expect(await verifyHistory(db)).toBe(false);
  expect(await epoch()).toBe(first);
  await insertChanges(1);
  await test_db.query("update feed_meta set fingerprint = 'elsewhere', pruned_tx = '999999999'");
  expect((await Promise.all([verifyHistory(db), verifyHistory(db), verifyHistory(db)])).filter(Boolean)).toHaveLength(
    1,
  );
  expect(await epoch()).not.toBe(first);
  expect(await test_db.query("select pruned_tx::text from feed_meta")).toEqual([{ pruned_tx: "0" }]);
  expect(await test_db.query("select 1 from change_log")).toEqual([]);
  const second = await epoch();
  await startNewEpoch(db);
  expect(await epoch()).not.toBe(second);
});

test("a long text does not make the log lose the short facts beside it", async () => {
  const [project, agent] = [systemRandom.uuid(), systemRandom.uuid()];
  await test_db.query("insert into projects (id, name, slug) values ($1, repeat('p', 5000), 'p')", [project]);
  await test_db.query("insert into agents (id, project_id, slug, name) values ($1, $2, 'a', 'a')", [agent, project]);
  await test_db.query("update agents set message = repeat('m', 5000), phase = 'error', deleted_at = now()");
  const rows = await test_db.query<{ payload: Record<string, unknown> }>(
    "select payload from change_log where entity in ('project', 'agent') order by id",
  );
  expect(rows.map((r) => r.payload)).toEqual([
    { cut: true, slug: "p" },
    expect.not.objectContaining({ cut: true }),
    expect.objectContaining({ cut: true, phase: "error", deleted_at: expect.any(String) }),
  ]);
});

test("a prune voids the positions before it, and not those of now, however long a writer has been open", async () => {
  const open = await pool.connect();
  try {
    await open.query("begin");
    await open.query("insert into projects (id, name, slug) values ($1, 'open', 'open')", [systemRandom.uuid()]);
    const { seen: before } = await currentPosition(db);
    await insertChanges(2);
    const { seen: between } = await currentPosition(db);
    await insertChanges(1);
    await test_db.query("update feed_meta set pruned_tx = (select max(tx) from change_log)");
    expect((await readChanges(db, { seen: before, limit: 10 })).pruned).toBe(true);
    expect((await readChanges(db, { seen: between, limit: 10 })).pruned).toBe(true);
    // Other transactions of the server come and go as well.
    const now = await eventually(async () => {
      const { seen } = await currentPosition(db);
      expect((await readChanges(db, { seen, limit: 10 })).pruned).toBe(false);
      return seen;
    });
    await open.query("commit");
    // Whether its rows were among those pruned cannot be told any more: rather a needless resync than a gap.
    expect((await readChanges(db, { seen: now, limit: 10 })).pruned).toBe(true);
  } finally {
    open.release();
  }
});

test("changes beyond the number that is kept go from the oldest on, and only positions before them are void", async () => {
  const { seen: before } = await currentPosition(db);
  await insertChanges(30);
  // Transactions of the server's other databases may have begun before those and still be under way.
  const between = await eventually(async () => {
    const { seen } = await currentPosition(db);
    const [row] = await test_db.query<{ over: boolean }>(
      "select max(tx) < pg_snapshot_xmin($1::text::pg_snapshot) as over from change_log",
      [seen],
    );
    return row?.over === true && seen;
  });
  await insertChanges(20);
  const prune = () => pruneChangeLog(db, { maxAgeSeconds: 3_600, maxRows: 20, limit: 25 });
  expect([await prune(), await prune(), await prune()]).toEqual([25, 5, 0]);
  expect((await readChanges(db, { seen: before, limit: 100 })).pruned).toBe(true);
  const kept = await readChanges(db, { seen: between, limit: 100 });
  expect(kept).toMatchObject({ pruned: false, more: false });
  expect(kept.rows).toHaveLength(20);
});

test("every column of an agent is news by its name when it changes, whoever added it, but for noise", async () => {
  // One connection for all: it is many small statements.
  const query = async <T extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<T[]> =>
    (await pool.query<T>(text, values)).rows;
  const noise = ["updated", "last_seen", "last_activity_event", "state_version", "launching"];
  const [project, other, runtimeBroker, agent] = Array.from({ length: 4 }, () => systemRandom.uuid());
  await query("insert into projects (id, name, slug) values ($1, 'p', 'p'), ($2, 'q', 'q')", [project, other]);
  await query("insert into runtime_brokers (id, name, slug) values ($1, 'r', 'r')", [runtimeBroker]);
  await query("insert into agents (id, project_id, slug, name) values ($1, $2, 'a', 'a')", [agent, project]);
  const columns = await query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, null) as type from pg_attribute
      where attrelid = 'agents'::regclass and attnum > 0 and not attisdropped and attname <> 'id'`,
  );
  const chosen: Record<string, string> = {
    project_id: `'${other}'`,
    runtime_broker_id: `'${runtimeBroker}'`,
    phase: "'running'",
    activity: "'working'",
    visibility: "'public'",
  };
  const another: Record<string, (name: string) => string> = {
    text: () => "'changed'",
    integer: (name) => `coalesce(${name}, 0) + 1`,
    boolean: (name) => `not ${name}`,
    jsonb: () => `'{"changed": 1}'`,
    uuid: () => "gen_random_uuid()",
    "uuid[]": () => "array[gen_random_uuid()]",
    "timestamp with time zone": () => "now() + interval '1 hour'",
  };
  const newest = async () =>
    (await query<{ id: string; changed: string[] }>("select id, changed from change_log order by id desc"))[0];
  for (const { name, type } of columns) {
    const value = chosen[name] ?? another[type]?.(name);
    if (value === undefined) throw new Error(`say how to change ${name}, of type ${type}`);
    const before = await newest();
    await query(`update agents set ${name} = ${value}`);
    if (noise.includes(name)) expect({ [name]: await newest() }).toEqual({ [name]: before });
    else expect({ [name]: (await newest())?.changed }).toEqual({ [name]: expect.arrayContaining([name]) });
  }
  const before = await newest();
  await query("update agents set slug = slug, labels = labels");
  expect(await newest()).toEqual(before);
  await query("alter table agents add column later text");
  await query("update agents set later = 'news'");
  expect(await newest()).not.toEqual(before);
});

test("a statement on many agents tells of each that changed, and of no other", async () => {
  const project = systemRandom.uuid();
  await test_db.query("insert into projects (id, name, slug) values ($1, 'p', 'p')", [project]);
  await test_db.query(
    `insert into agents (id, project_id, slug, name, phase)
     select gen_random_uuid(), $1, n::text, n::text, 'running' from generate_series(1, 10) n`,
    [project],
  );
  const { seen } = await currentPosition(db);
  await test_db.query("update agents set last_seen = now(), activity = case when slug < '4' then 'working' end");
  const { rows } = await readChanges(db, { seen, limit: 100 });
  // "10" sorts before "4".
  expect(rows.map((r) => r.changed)).toEqual(Array.from({ length: 4 }, () => ["activity"]));
  expect(rows[0]?.payload).toMatchObject({ phase: "running", activity: "working" });
});

test("a statement on thousands of agents compares each with itself alone, on a connection that began with few", async () => {
  const project = systemRandom.uuid();
  await test_db.query("insert into projects (id, name, slug) values ($1, 'p', 'p')", [project]);
  await test_db.query(
    `insert into agents (id, project_id, slug, name, phase)
     select gen_random_uuid(), $1, n::text, n::text, 'running' from generate_series(1, 5000) n`,
    [project],
  );
  const { seen } = await currentPosition(db);
  const client = await pool.connect();
  try {
    // As a replica's pool has it; each with every other would take longer than this allows.
    await client.query(
      `set plan_cache_mode = force_generic_plan; set enable_hashjoin = off; set enable_mergejoin = off;
       set statement_timeout = '10s'`,
    );
    await client.query("update agents set activity = 'working' where slug = '1'");
    await client.query("update agents set activity = 'thinking'");
  } finally {
    client.release(true);
  }
  expect((await readChanges(db, { seen, limit: 10_000 })).rows).toHaveLength(5_001);
});
