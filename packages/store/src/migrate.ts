import type { Log } from "@rootstock/service";
import pg from "pg";
import { LOCK_KEYS } from "./locks.ts";
import { loadMigrations, MIGRATIONS_DIR, type Migration } from "./migrations.ts";

/**
 * Applies `migrations/`, each in a transaction of its own under one advisory lock, by whoever is first (design 9).
 *
 * `schema_version` holds what the database is (`version`) and the oldest code that may serve on it (`min_compatible`,
 * raised only by a migration that says `-- compatible: no`). It is read before any DDL:
 *
 *   code >= version                      applies what is missing, then serves
 *   min_compatible <= code < version     serves, migrates nothing: an old replica may restart in the middle of a rollout
 *   code < min_compatible                refused, nothing touched
 */

/** The database declares itself incompatible with this code. Nothing was touched. */
export class SchemaTooNewError extends Error {
  override readonly name = "SchemaTooNewError";
  constructor(found: number, minCompatible: number, known: number) {
    super(
      `the database's schema is version ${found} and asks for code that knows version ${minCompatible} or later; ` +
        `this code knows version ${known}. Use a newer release of Rootstock.`,
    );
  }
}

export interface MigrateOptions {
  /** A direct connection, not through a pooling proxy. */
  readonly url: string;
  readonly log: Log;
  /** The folder of migrations; the checkout's own by default. */
  readonly dir?: string;
}

export interface MigrationStatus {
  /** What the database is; 0 when empty. */
  readonly version: number;
  readonly minCompatible: number;
  /** What this code knows. */
  readonly known: number;
  readonly pending: readonly string[];
  readonly compatible: boolean;
}

interface Applied {
  readonly version: number;
  readonly minCompatible: number;
}

const DDL_LOCK_TIMEOUT_MS = 5_000;
const DDL_ATTEMPTS = 12;

const withClient = async <T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({
    connectionString: url,
    application_name: "rootstock-migrate",
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
  });
  client.on("error", () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
};

const readVersion = async (client: pg.Client): Promise<Applied> => {
  // Not to_regclass(): inside a transaction that waited for the lock it answers from a stale cache.
  const exists = await client.query(
    "select exists (select from pg_class where relname = 'schema_version' and relnamespace = current_schema()::regnamespace) as found",
  );
  if (!exists.rows[0].found) return { version: 0, minCompatible: 0 };
  const { rows } = await client.query("select version, min_compatible from schema_version");
  return { version: rows[0].version, minCompatible: rows[0].min_compatible };
};

const refuseTooNew = (applied: Applied, known: number): void => {
  if (known < applied.minCompatible) throw new SchemaTooNewError(applied.version, applied.minCompatible, known);
};

const createBookkeeping = `
  create table if not exists schema_version (
    one boolean primary key default true check (one),
    version int not null,
    min_compatible int not null
  );
  create table if not exists schema_migrations (
    number int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
  );
  insert into schema_version (version, min_compatible) values (0, 0) on conflict do nothing`;

/** Applies `migration` unless somebody else has meanwhile. One transaction: a failure leaves nothing behind. */
const apply = async (client: pg.Client, migration: Migration, known: number): Promise<boolean> => {
  await client.query("begin");
  try {
    await client.query("select pg_advisory_xact_lock($1)", [LOCK_KEYS.migrate]);
    const applied = await readVersion(client);
    refuseTooNew(applied, known);
    if (applied.version >= migration.number) {
      await client.query("rollback");
      return false;
    }
    await client.query(`set local lock_timeout = ${DDL_LOCK_TIMEOUT_MS}`);
    await client.query(createBookkeeping);
    await client.query(migration.sql);
    await client.query("insert into schema_migrations (number, name, checksum) values ($1, $2, $3)", [
      migration.number,
      migration.name,
      migration.checksum,
    ]);
    await client.query(
      "update schema_version set version = $1, min_compatible = case when $2 then min_compatible else $1 end",
      [migration.number, migration.compatible],
    );
    await client.query("commit");
    return true;
  } catch (err) {
    await client.query("rollback").catch(() => {});
    throw err;
  }
};

const isLockTimeout = (err: unknown): boolean =>
  typeof err === "object" && err !== null && "code" in err && err.code === "55P03";

/** A migration whose text changed after it was applied: the database is not what this code believes. */
const refuseChanged = async (client: pg.Client, migrations: readonly Migration[]): Promise<void> => {
  const { rows } = await client.query("select number, name, checksum from schema_migrations");
  for (const row of rows) {
    const ours = migrations.find((m) => m.number === row.number);
    if (ours && ours.checksum !== row.checksum)
      throw new Error(`migration ${row.name} was applied with another text than ${ours.name} has now`);
  }
};

/**
 * Brings the database up to this code's schema, or leaves it alone when it is newer and compatible.
 * Throws {@link SchemaTooNewError} when it is not.
 */
export const migrate = async (options: MigrateOptions): Promise<MigrationStatus> => {
  const migrations = await loadMigrations(options.dir ?? MIGRATIONS_DIR);
  return withClient(options.url, async (client) => {
    const applied = await readVersion(client);
    refuseTooNew(applied, migrations.length);
    for (const migration of migrations.slice(applied.version)) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          if (await apply(client, migration, migrations.length))
            options.log.info({ migration: migration.name }, "migration applied");
          break;
        } catch (err) {
          if (attempt >= DDL_ATTEMPTS || !isLockTimeout(err)) throw err;
          options.log.warn({ migration: migration.name, attempt }, "migration waits for a lock");
        }
      }
    }
    if (migrations.length > 0) await refuseChanged(client, migrations);
    return status(client, migrations);
  });
};

const status = async (client: pg.Client, migrations: readonly Migration[]): Promise<MigrationStatus> => {
  const { version, minCompatible } = await readVersion(client);
  return {
    version,
    minCompatible,
    known: migrations.length,
    pending: migrations.slice(version).map((m) => m.name),
    compatible: migrations.length >= minCompatible,
  };
};

/** What is applied and what is pending. Reads only. */
export const migrationStatus = async (options: Omit<MigrateOptions, "log">): Promise<MigrationStatus> => {
  const migrations = await loadMigrations(options.dir ?? MIGRATIONS_DIR);
  return withClient(options.url, (client) => status(client, migrations));
};
