import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createTestDatabase, heard, type TestDatabase } from "@rootstock/testkit";
import { EXIT } from "../exitCodes.ts";
import { run } from "../run.ts";

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase({ migrated: false });
});
afterEach(() => database.drop());

const migrate = async (...flags: string[]) => {
  const out: string[] = [];
  const err: string[] = [];
  const env = { DATABASE_URL: database.url, ROOTSTOCK_LOG_LEVEL: "trace" };
  const code = await run(["migrate", ...flags], env, { out: (l) => out.push(l), err: heard(err) });
  return { code, out: out.join("\n"), err: err.join("\n") };
};

test("status and check only look; migrate brings the schema up; check then agrees", async () => {
  const before = await migrate("--check");
  expect(before.code).toBe(EXIT.schemaDiffers);
  expect((await migrate("--status")).out).toMatch(/schema version {2}0\n/);
  expect(await database.query("select relname from pg_class where relname = 'agents'")).toEqual([]);

  const done = await migrate();
  expect(done.code).toBe(EXIT.ok);
  expect(done.err).not.toMatch(/"level":[456]0/);
  expect(done.out).toMatch(/pending {9}none$/);
  expect((await migrate("--check")).code).toBe(EXIT.ok);
});

test("a database that asks for a newer release is refused and left alone", async () => {
  await migrate();
  await database.query("update schema_version set version = 9000, min_compatible = 9000");
  const refused = await migrate();
  expect(refused.code).toBe(EXIT.failed);
  expect(refused.err).toContain("newer release");
  expect((await migrate("--check")).code).toBe(EXIT.schemaDiffers);
});

test("without a usable address nothing is tried, and the address is not repeated", async () => {
  const err: string[] = [];
  const output = { out: () => {}, err: (line: string) => err.push(line) };
  expect(await run(["migrate"], { ROOTSTOCK_LOG_LEVEL: "x" }, output)).toBe(EXIT.usage);
  expect(err.join("\n")).toMatch(/ROOTSTOCK_LOG_LEVEL[\s\S]*DATABASE_URL: required/);
  expect(await run(["migrate"], { DATABASE_URL: "mysql://u:pw@h/d" }, output)).toBe(EXIT.usage);
  expect(err.join("\n")).not.toContain("pw@");
});
