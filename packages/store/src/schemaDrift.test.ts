import { readdir, readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTestDatabase, type TestDatabase } from "@rootstock/testkit";

/** The migrated catalog and the row types of tables.ts say the same, both ways. */

interface Column {
  readonly nullable: boolean;
  /** May be left out of an insert. */
  readonly optional: boolean;
  readonly kind: string;
}
type Schema = Record<string, Record<string, Column>>;

/** Tables of the migrator itself: no code but that one reads them. */
const MIGRATOR = ["schema_migrations", "schema_version"];

const KIND_OF_CATALOG: Record<string, string> = {
  uuid: "text",
  text: "text",
  int8: "text",
  xid8: "text",
  int4: "number",
  float8: "number",
  bool: "boolean",
  bytea: "bytes",
  timestamptz: "time",
  jsonb: "json",
};

const columnOf = (type: string): Column => {
  const nullable = /^Nullable/.test(type) || /\| null\b/.test(type);
  const optional = nullable || /^(Default|Generated)/.test(type);
  const inner = type
    .replace(/^(?:Nullable|Generated)<(.*)>$/, "$1")
    .replace(/^ColumnType<(\w+),.*$/, "$1")
    .replace(/^(?:Nullable|Default)?(Time|Json)\b.*$/, "$1");
  if (inner === "Time" || inner === "Json") return { nullable, optional, kind: inner.toLowerCase() };
  if (inner === "number" || inner === "boolean") return { nullable, optional, kind: inner };
  if (inner === "Buffer") return { nullable, optional, kind: "bytes" };
  if (/\[\]$/.test(inner)) return { nullable, optional, kind: "array" };
  // Names of closed sets of texts, and ids.
  return { nullable, optional, kind: "text" };
};

/** The row types: the files of families that tables.ts joins. */
const rowTypes = async (): Promise<string> => {
  const folder = new URL("./", import.meta.url);
  const files = (await readdir(folder)).filter((name) => /^\w+Tables\.ts$/.test(name));
  const sources = await Promise.all(files.map((name) => readFile(new URL(name, folder), "utf8")));
  return sources.join("\n");
};

/** The interfaces of row types, by the table that its family gives each. */
const schemaOfTypes = (source: string): Schema => {
  const interfaces = new Map<string, Record<string, Column>>();
  for (const [, name, body] of source.matchAll(/export interface (\w+) \{\n([\s\S]*?)\n\}/g)) {
    const columns: Record<string, Column> = {};
    for (const [, column, type] of (body ?? "").matchAll(/^ {2}(\w+): ([^;]+);$/gm))
      if (column && type) columns[column] = columnOf(type);
    if (name) interfaces.set(name, columns);
  }
  const schema: Schema = {};
  const families = [...source.matchAll(/export interface \w+Tables \{\n([\s\S]*?)\n\}/g)];
  const tables = families.map(([, body]) => body).join("\n");
  for (const [, table, name] of tables.matchAll(/^ {2}(\w+): (\w+);$/gm)) {
    const columns = interfaces.get(name ?? "");
    if (!table || !columns) throw new Error(`Tables names ${name}, which is no interface there`);
    schema[table] = columns;
  }
  return schema;
};

const schemaOfCatalog = async (database: TestDatabase): Promise<Schema> => {
  const rows = await database.query<{
    table: string;
    column: string;
    nullable: boolean;
    defaulted: boolean;
    type: string;
  }>(`select c.table_name as "table", c.column_name as "column", c.is_nullable = 'YES' as nullable,
      (c.column_default is not null or c.is_identity = 'YES') as defaulted, c.udt_name as type
    from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'public' and t.table_type = 'BASE TABLE'`);
  const schema: Schema = {};
  for (const r of rows) {
    if (MIGRATOR.includes(r.table)) continue;
    const kind = r.type.startsWith("_") ? "array" : (KIND_OF_CATALOG[r.type] ?? r.type);
    schema[r.table] = {
      ...schema[r.table],
      [r.column]: { nullable: r.nullable, optional: r.nullable || r.defaulted, kind },
    };
  }
  return schema;
};

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("every table, column, nullability, default and kind of the catalog is in tables.ts, and the other way round", async () => {
  const types = schemaOfTypes(await rowTypes());
  const catalog = await schemaOfCatalog(database);
  expect(Object.keys(catalog).length).toBeGreaterThan(10);
  expect(types).toEqual(catalog);
});

test("a drift is noticed: a column only in the database, one only in the code, one of another nullability", async () => {
  const drifted = await createTestDatabase();
  try {
    await drifted.query(
      "alter table users add column extra text, drop column avatar_url, alter column display_name drop not null",
    );
    const types = schemaOfTypes(await rowTypes());
    const catalog = await schemaOfCatalog(drifted);
    expect(catalog.users?.extra).toBeDefined();
    expect(types.users?.extra).toBeUndefined();
    expect(types.users?.avatar_url).toBeDefined();
    expect(catalog.users?.avatar_url).toBeUndefined();
    expect(catalog.users?.display_name).not.toEqual(types.users?.display_name);
    expect(types).not.toEqual(catalog);
  } finally {
    await drifted.drop();
  }
});
