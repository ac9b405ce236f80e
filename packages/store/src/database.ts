import { type Log, Semaphore, type Service } from "@rootstock/service";
import { Kysely, PostgresDialect, type Transaction } from "kysely";
import pg from "pg";
import { PreparingPool } from "./preparedStatements.ts";
import type { Tables } from "./tables.ts";

/** Where statements run: the pool, or one transaction on it. */
export type Db = Kysely<Tables> | Transaction<Tables>;

export interface DatabaseOptions {
  /** May point at a transaction-pooling proxy. */
  readonly url: string;
  /** Whether the proxy is there: session settings would then reach other clients' statements, and are left to the role. */
  readonly pooled: boolean;
  readonly poolSize: number;
  /** Names the replica in `pg_stat_activity`. */
  readonly applicationName: string;
  readonly log: Log;
}

/** Longer than any call may take (25 s), so that it only ends what nobody waits for any more. */
const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * A kept statement keeps the plan that was made for the tables as they were then: for empty ones the planner reads
 * them whole, and would go on doing so. Everything we ask for is found by index.
 */
const PLANS_THAT_LAST = [
  "set plan_cache_mode = force_generic_plan",
  "set enable_seqscan = off",
  "set enable_hashjoin = off",
  "set enable_mergejoin = off",
  "set jit = off",
];

/** Sets what holds for a whole session, before the first statement of anybody goes over the connection. */
const settle = async (client: pg.ClientBase, log: Log): Promise<void> => {
  const settings = [
    `set statement_timeout = ${STATEMENT_TIMEOUT_MS}`,
    `set idle_in_transaction_session_timeout = ${STATEMENT_TIMEOUT_MS}`,
    ...PLANS_THAT_LAST,
  ];
  await client
    .query(settings.join("; "))
    .catch((err: unknown) => log.warn({ err }, "database session settings refused"));
};

/** The pool of a replica. Errors of idle connections are logged; the next statement opens a new connection. */
export class Database implements Service {
  readonly db: Kysely<Tables>;
  readonly #pool: pg.Pool;
  readonly #background: Semaphore;
  #ended: Promise<void> | undefined;

  constructor(options: DatabaseOptions) {
    this.#pool = new pg.Pool({
      connectionString: options.url,
      max: options.poolSize,
      application_name: options.applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      onConnect: async (client) => {
        client.on("error", (err) => options.log.debug({ err }, "database connection lost"));
        if (!options.pooled) await settle(client, options.log);
      },
    });
    // Without these listeners a database restart ends the process.
    this.#pool.on("error", (err) => options.log.warn({ err }, "idle database connection lost"));
    this.db = new Kysely<Tables>({
      dialect: new PostgresDialect({ pool: options.pooled ? this.#pool : new PreparingPool(this.#pool) }),
    });
    this.#background = new Semaphore(Math.max(1, Math.floor(options.poolSize / 2)));
  }

  async start(): Promise<void> {}

  /** Waits for the statements under way, then closes every connection. */
  stop(): Promise<void> {
    this.#ended ??= this.db.destroy();
    return this.#ended;
  }

  /**
   * Runs work that nobody waits for (reconnect storms, drains, sweeps): at most half of the pool at once, so that calls
   * never queue behind it.
   */
  background<T>(work: () => Promise<T>): Promise<T> {
    return this.#background.run(work);
  }

  /** Connections of the pool: open, idle, and callers that wait for one. */
  stats(): { readonly total: number; readonly idle: number; readonly waiting: number } {
    return { total: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount };
  }
}
