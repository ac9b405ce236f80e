import { createHash, randomBytes } from "node:crypto";
import { loadMigrations, migrate } from "@rootstock/store";
import pg from "pg";
import { testLog } from "./recordedLogs.ts";

/** A database of its own for one test or file, cloned from a migrated template. */
export interface TestDatabase {
  readonly url: string;
  /** Runs one statement, on whichever connection: what it sets for its session, no other statement may count on. */
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

/** How long a connection is kept for the next statement. Each new one costs the server as much as some fifty statements. */
const IDLE_MS = 2_000;

/** Connections that are there while they are used, and keep no process from ending. */
const poolOf = (url: string, max: number): pg.Pool => {
  const pool = new pg.Pool({ connectionString: url, max, idleTimeoutMillis: IDLE_MS, allowExitOnIdle: true });
  // A server that goes away takes those along that nobody uses; the next statement opens another.
  pool.on("error", () => {});
  return pool;
};

/** The server of the run, and the template in it: the same for every test of a file. */
class TestServer {
  readonly #pool: pg.Pool;
  #template: Promise<string> | undefined;

  constructor(url: string) {
    this.#pool = poolOf(url, 2);
  }

  async create(name: string, options: { readonly migrated: boolean }): Promise<void> {
    const template = options.migrated ? await this.#migrated() : "template0";
    await this.#pool.query(`create database ${name} template ${template}`);
  }

  async drop(name: string): Promise<void> {
    await this.#pool.query(`drop database ${name} with (force)`);
  }

  #migrated(): Promise<string> {
    this.#template ??= this.#ensureTemplate();
    return this.#template;
  }

  async #ensureTemplate(): Promise<string> {
    const admin = await this.#pool.connect();
    try {
      return await ensureTemplate(admin);
    } catch (err) {
      this.#template = undefined;
      throw err;
    } finally {
      admin.release();
    }
  }
}

const servers = new Map<string, TestServer>();
const serverAt = (url: string): TestServer => {
  const server = servers.get(url) ?? new TestServer(url);
  servers.set(url, server);
  return server;
};

const ensureTemplate = async (admin: pg.ClientBase): Promise<string> => {
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
    await migrate({ url: withDatabase(serverUrl(), building), log: testLog("migrations") });
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
  const server = serverAt(serverUrl());
  const name = `rootstock_test_${randomBytes(8).toString("hex")}`;
  await server.create(name, { migrated: options.migrated !== false });
  const url = withDatabase(serverUrl(), name);
  const pool = poolOf(url, 4);
  return {
    url,
    query: async (sql, values) => (await pool.query(sql, values ? [...values] : undefined)).rows,
    drop: async () => {
      const ended = pool.end();
      await server.drop(name);
      await ended;
    },
  };
};
