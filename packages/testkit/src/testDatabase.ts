import { createHash, randomBytes } from "node:crypto";
import { silentLog } from "@rootstock/service";
import { loadMigrations, migrate } from "@rootstock/store";
import pg from "pg";

/** A database of its own for one test or file, cloned from a migrated template (about 20 ms). */
export interface TestDatabase {
  readonly url: string;
  /** Runs one statement on a connection of its own. */
  query<T extends pg.QueryResultRow>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  drop(): Promise<void>;
}

const LOCK = 0x5c2f_0001;

const serverUrl = (): string => {
  const url = process.env.TEST_DATABASE_URL;
  if (!url) throw new Error("TEST_DATABASE_URL is not set: run the tests through `npm test`");
  return url;
};

const withDatabase = (url: string, name: string): string => {
  const u = new URL(url);
  u.pathname = `/${name}`;
  return u.toString();
};

const connected = async <T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
};

const ensureTemplate = async (admin: pg.Client): Promise<string> => {
  const migrations = await loadMigrations();
  const digest = createHash("sha256");
  for (const m of migrations) digest.update(m.checksum);
  const name = `rootstock_template_${digest.digest("hex").slice(0, 16)}`;
  await admin.query("select pg_advisory_lock($1)", [LOCK]);
  try {
    const found = await admin.query("select 1 from pg_database where datname = $1", [name]);
    if (found.rowCount) return name;
    const building = `${name}_${randomBytes(4).toString("hex")}`;
    await admin.query(`create database ${building}`);
    await migrate({ url: withDatabase(serverUrl(), building), log: silentLog() });
    await admin.query(`alter database ${building} rename to ${name}`);
    return name;
  } finally {
    await admin.query("select pg_advisory_unlock($1)", [LOCK]);
  }
};

/** A database that somebody else made and will drop. */
export const databaseAt = (url: string): TestDatabase => ({
  url,
  query: (sql, values) =>
    connected(url, async (client) => (await client.query(sql, values ? [...values] : undefined)).rows),
  drop: async () => {},
});

/** An empty database (`migrated: false`) or one with the current schema. Drop it when done. */
export const createTestDatabase = async (options: { migrated?: boolean } = {}): Promise<TestDatabase> => {
  const server = serverUrl();
  const name = `rootstock_test_${randomBytes(8).toString("hex")}`;
  await connected(server, async (admin) => {
    const template = options.migrated === false ? "template0" : await ensureTemplate(admin);
    await admin.query(`create database ${name} template ${template}`);
  });
  return {
    ...databaseAt(withDatabase(server, name)),
    drop: () => connected(server, async (admin) => void (await admin.query(`drop database ${name} with (force)`))),
  };
};
