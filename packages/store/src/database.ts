import { type Clock, type Log, Semaphore, type Service } from "@rootstock/service";
import { Kysely, PostgresDialect, type Transaction } from "kysely";
import pg from "pg";
import { Answers } from "./answers.ts";
import { leadsThroughPooler } from "./poolerCheck.ts";
import { PreparedStatements, PreparingPool } from "./preparedStatements.ts";
import type { Tables } from "./tables.ts";

/** Where statements run: the pool, or one transaction on it. */
export type Db = Kysely<Tables> | Transaction<Tables>;

export interface DatabaseOptions {
  /** May point at a transaction-pooling proxy. */
  readonly url: string;
  /**
   * Whether the proxy is known to be there: session settings would then reach other clients' statements, and are left to
   * the role. If not, `start` finds out.
   */
  readonly pooled: boolean;
  readonly poolSize: number;
  /** Names the replica in `pg_stat_activity`. */
  readonly applicationName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds without any answer after which the database counts as silent; 10,000 by default. */
  readonly silentAfterMs?: number;
}

/** Longer than any call may take (25 s), so that it only ends what nobody waits for any more. */
const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** So long a statement is waited for: with the wait for a connection, still within a call's time. */
const STATEMENT_LIMIT_MS = 20_000;
const SILENT_AFTER_MS = 10_000;
const PROBE_LIMIT_MS = 2_000;

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
  // A plan for values that nobody knows expects many rows; to start workers for the few that come costs 20 ms.
  "set max_parallel_workers_per_gather = 0",
];

/** What holds for a whole session, before the first statement of anybody goes over the connection. */
const SESSION_SETTINGS = [
  `set statement_timeout = ${STATEMENT_TIMEOUT_MS}`,
  `set idle_in_transaction_session_timeout = ${STATEMENT_TIMEOUT_MS}`,
  ...PLANS_THAT_LAST,
].join("; ");

/**
 * The pool of a replica. Errors of idle connections are logged; the next statement opens a new connection. A database that
 * hangs is noticed, and refused like one that is away until it answers again.
 */
export class Database implements Service {
  readonly db: Kysely<Tables>;
  readonly #options: DatabaseOptions;
  readonly #pool: pg.Pool;
  readonly #answers: Answers;
  readonly #statements = new PreparedStatements();
  readonly #background: Semaphore;
  #pooled: boolean;
  #ended: Promise<void> | undefined;

  constructor(options: DatabaseOptions) {
    const { clock, log } = options;
    this.#options = options;
    this.#pooled = options.pooled;
    if (options.pooled) this.#statements.turnOff();
    this.#answers = new Answers({
      clock,
      log,
      probe: () => this.#probe(),
      silentAfterMs: options.silentAfterMs ?? SILENT_AFTER_MS,
      statementLimitMs: STATEMENT_LIMIT_MS,
    });
    this.#pool = new pg.Pool({
      connectionString: options.url,
      max: options.poolSize,
      application_name: options.applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      onConnect: (client) => this.#settle(client as pg.Client),
    });
    // Without these listeners a database restart ends the process.
    this.#pool.on("error", (err) => log.warn({ err }, "idle database connection lost"));
    this.db = new Kysely<Tables>({
      dialect: new PostgresDialect({ pool: new PreparingPool(this.#pool, this.#statements, this.#answers) }),
    });
    this.#background = new Semaphore(Math.max(1, Math.floor(options.poolSize / 2)));
  }

  /** Finds out whether a pooling proxy stands between, if nobody said so. A database that is away is not waited for. */
  async start(): Promise<void> {
    await this.#answers.start();
    if (this.#pooled || !(await leadsThroughPooler(this.#options.url))) return;
    this.#pooled = true;
    this.#statements.turnOff();
    this.#options.log.warn({}, "DATABASE_URL leads through a pooling proxy; set DATABASE_DIRECT_URL to a direct one");
  }

  /** Waits for the statements under way, then closes every connection. */
  stop(): Promise<void> {
    this.#ended ??= this.#end();
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

  /** For how long the database has been asked without any answer, in milliseconds; 0 when nothing is asked. */
  silentForMs(): number {
    return this.#answers.silentForMs();
  }

  async #end(): Promise<void> {
    await this.#answers.stop();
    await this.db.destroy();
  }

  async #settle(client: pg.Client): Promise<void> {
    const { log } = this.#options;
    client.on("error", (err) => log.debug({ err }, "database connection lost"));
    if (this.#pooled) return;
    await this.#answers
      .watch(
        () => client.query(SESSION_SETTINGS),
        () => void client.connection.stream.destroy(),
      )
      .catch((err: unknown) => log.warn({ err }, "database session settings refused"));
  }

  /** By a connection of its own: those of the pool were given up. */
  async #probe(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#options.url,
      application_name: this.#options.applicationName,
      connectionTimeoutMillis: PROBE_LIMIT_MS,
      query_timeout: PROBE_LIMIT_MS,
    });
    client.on("error", () => {});
    try {
      await client.connect();
      await client.query("select 1");
    } finally {
      // Not `end`, which waits for the server.
      client.connection.stream.destroy();
    }
  }
}
