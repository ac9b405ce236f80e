import { createHash } from "node:crypto";
import type { PostgresPool, PostgresPoolClient, PostgresQueryResult } from "kysely";
import type pg from "pg";
import type { Answers } from "./answers.ts";
import { isPreparedStatementGone, isPreparedStatementStale } from "./databaseErrors.ts";

/** Seen so often, a statement is one of ours that comes again and again, and is worth keeping on every connection. */
const KEPT_FROM = 3;
/** Beyond so many, statements are made on the fly (lists of varying length), and would only fill the server's memory. */
const MOST_KEPT = 250;
const MOST_COUNTED = 2_000;

/**
 * Which statements the server is to keep parsed and planned, and under what name. Planning costs several times what
 * running them does: everything that the hub asks for again and again is found by index in well under a millisecond.
 */
export class PreparedStatements {
  readonly #kept = new Map<string, string>();
  readonly #counted = new Map<string, number>();
  #generation = 0;
  #off = false;

  /** Nothing is kept from now on: names mean nothing behind a pooling proxy. */
  turnOff(): void {
    this.#off = true;
  }

  /** The name of a statement; undefined when it is to be sent as it is. */
  nameOf(text: string): string | undefined {
    if (this.#off) return undefined;
    const known = this.#kept.get(text);
    if (known !== undefined) return known;
    const seen = (this.#counted.get(text) ?? 0) + 1;
    if (seen < KEPT_FROM || this.#kept.size >= MOST_KEPT) {
      if (this.#counted.size >= MOST_COUNTED) this.#counted.clear();
      this.#counted.set(text, seen);
      return undefined;
    }
    this.#counted.delete(text);
    const digest = createHash("sha256").update(text).digest("base64url").slice(0, 22);
    const name = `rootstock_${this.#generation}_${digest}`;
    this.#kept.set(text, name);
    return name;
  }

  /**
   * Learns from a failed statement. Whether it is worth sending once more: a migration changed what the statement
   * returns, and it gets a new name; or a pooling proxy hands every transaction another connection, and names mean
   * nothing there from now on.
   */
  recover(err: unknown): boolean {
    if (isPreparedStatementStale(err)) {
      this.#generation += 1;
      this.#kept.clear();
      return true;
    }
    if (!isPreparedStatementGone(err)) return false;
    this.#off = true;
    return true;
  }
}

/** A pool whose clients have the server keep the statements that come again and again, and whose silence is noticed. */
export class PreparingPool implements PostgresPool {
  readonly #pool: pg.Pool;
  readonly #statements: PreparedStatements;
  readonly #answers: Answers;
  readonly #clients = new WeakMap<pg.PoolClient, PostgresPoolClient>();

  constructor(pool: pg.Pool, statements: PreparedStatements, answers: Answers) {
    this.#pool = pool;
    this.#statements = statements;
    this.#answers = answers;
  }

  get options(): object {
    return this.#pool.options;
  }

  /** Throws `DatabaseSilentError` while the database does not answer. */
  async connect(): Promise<PostgresPoolClient> {
    this.#answers.refuseWhenSilent();
    const client = await this.#pool.connect();
    const known = this.#clients.get(client);
    if (known) return known;
    const preparing = new PreparingClient(client, this.#statements, this.#answers);
    this.#clients.set(client, preparing);
    return preparing;
  }

  end(): Promise<void> {
    return this.#pool.end();
  }
}

class PreparingClient implements PostgresPoolClient {
  readonly #client: pg.PoolClient;
  readonly #statements: PreparedStatements;
  readonly #answers: Answers;
  /** `end` would wait for the server; this does not. The statement under way fails with it. */
  readonly #giveUp = (): void => void this.#client.connection.stream.destroy();

  constructor(client: pg.PoolClient, statements: PreparedStatements, answers: Answers) {
    this.#client = client;
    this.#statements = statements;
    this.#answers = answers;
  }

  query(first: unknown, parameters?: readonly unknown[]): never {
    if (typeof first !== "string") throw new Error("cursors are not supported");
    return this.#query(first, parameters ?? []) as never;
  }

  release(destroy?: boolean): void {
    this.#client.release(destroy);
  }

  async #query(text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<unknown>> {
    // Commands without values (begin, commit) go the simple way, in one message.
    const name = parameters.length > 0 ? this.#statements.nameOf(text) : undefined;
    if (name === undefined) return this.#send({ text, values: [...parameters] });
    try {
      return await this.#send({ name, text, values: [...parameters] });
    } catch (err) {
      if (!this.#statements.recover(err)) throw err;
      try {
        return await this.#send({ text, values: [...parameters] });
      } catch {
        // Within a transaction, which is over: whoever began it repeats it for the first error.
        throw err;
      }
    }
  }

  #send(query: pg.QueryConfig): Promise<PostgresQueryResult<unknown>> {
    return this.#answers.watch(() => this.#ask(query), this.#giveUp);
  }

  /**
   * With a callback: what the driver's own promise returns outlives small collections until the next full one, however
   * short it was needed, and each of them takes 5 to 20 ms for it instead of half a millisecond (driver 8.23, Node 24).
   */
  #ask(query: pg.QueryConfig): Promise<PostgresQueryResult<unknown>> {
    return new Promise<PostgresQueryResult<unknown>>((resolve, reject) => {
      this.#client.query(query, (err, result) => {
        if (err) reject(err);
        else resolve(result as unknown as PostgresQueryResult<unknown>);
      });
    }).catch((err: Error) => {
      // Of whoever asked, not of the socket that the answer came by.
      Error.captureStackTrace(err);
      throw err;
    });
  }
}
