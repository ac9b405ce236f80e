import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { MIGRATIONS_DIR, migrate, migrationStatus, SchemaTooNewError } from "@rootstock/store";
import { createTestDatabase, type TestDatabase, testLog } from "@rootstock/testkit";

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase({ migrated: false });
});
afterEach(() => database.drop());

/** A folder with the real migrations and `extra` ones behind them. */
const folderWith = async (...extra: string[]): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), "rootstock-migrations-"));
  const files = (await readdir(MIGRATIONS_DIR)).sort();
  for (const file of files) await writeFile(join(dir, file), await readFile(join(MIGRATIONS_DIR, file)));
  for (const [i, sql] of extra.entries())
    await writeFile(join(dir, `${String(files.length + i + 1).padStart(4, "0")}_later.sql`), sql);
  return dir;
};

const run = (dir?: string) => migrate({ url: database.url, log: testLog(), ...(dir && { dir }) });
const tables = async () =>
  (await database.query<{ n: number }>("select count(*)::int as n from pg_tables where schemaname = 'public'"))[0]?.n;

test("two replicas migrating at once: one does, the other waits, both go on", async () => {
  const results = await Promise.all([run(), run(), run()]);
  for (const status of results) expect(status.pending).toEqual([]);
  const applied = await database.query("select number from schema_migrations");
  expect(applied).toHaveLength(results[0]?.known ?? 0);
});

test("a second run changes nothing", async () => {
  await run();
  const before = await database.query("select * from schema_migrations order by number");
  await run();
  expect(await database.query("select * from schema_migrations order by number")).toEqual(before);
});

test("older code serves on a newer compatible schema and migrates nothing", async () => {
  await run(await folderWith("-- compatible: yes\ncreate table later (id int)"));
  const status = await run();
  expect(status).toMatchObject({ version: status.known + 1, compatible: true, pending: [] });
});

test("older code is refused by an incompatible schema, before any DDL", async () => {
  await run(await folderWith("-- compatible: no\ndrop table seen_nonces"));
  const before = await tables();
  await expect(run()).rejects.toThrow(SchemaTooNewError);
  expect(await tables()).toBe(before);
  expect(await migrationStatus({ url: database.url })).toMatchObject({ compatible: false });
});

test("a failing migration leaves nothing behind", async () => {
  await run();
  const before = await tables();
  const dir = await folderWith("-- compatible: yes\ncreate table half (id int); select 1/0");
  await expect(run(dir)).rejects.toThrow("division by zero");
  expect(await tables()).toBe(before);
});

test("a migration whose text changed after it was applied is refused", async () => {
  await run(await folderWith("-- compatible: yes\ncreate table later (id int)"));
  await expect(run(await folderWith("-- compatible: yes\ncreate table later (id bigint)"))).rejects.toThrow(
    "another text",
  );
});

test("a folder with a gap or a wrong first line is refused", async () => {
  await expect(run(await folderWith("create table x ()"))).rejects.toThrow("compatible: yes|no");
});
