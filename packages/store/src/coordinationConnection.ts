import pg from "pg";

/** What a look at the connection's own server process and lock shows. */
export type Look = "ours" | "elsewhere" | "lock lost" | "no answer";

const MINE = `exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted
  and database = (select oid from pg_database where datname = current_database())
  and classid::bigint = $1::bigint >> 32 and objid::bigint = $1::bigint & 4294967295 and objsubid = 1)`;

const END_HOLDERS = `select pg_terminate_backend(l.pid) from pg_locks l where l.locktype = 'advisory'
  and l.pid <> pg_backend_pid() and l.granted
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid::bigint = $1::bigint >> 32 and l.objid::bigint = $1::bigint & 4294967295 and l.objsubid = 1`;

/**
 * A living replica holds the locks of its sweeps on the connection that holds its own lock. Any other holder is a server
 * connection of a pooler, on which somebody left the lock behind, or a replica that was paused in the middle.
 */
const END_STRAY_HOLDERS = `${END_HOLDERS} and not exists (
  select from pg_locks own join hub_replicas r on r.lock_key = (own.classid::bigint << 32 | own.objid::bigint)
   where own.locktype = 'advisory' and own.objsubid = 1 and own.granted and own.database = l.database and own.pid = l.pid
     and r.last_seen > now() - interval '10 seconds')`;

const TAKE_OVER_ATTEMPTS = 20;
const LOOKS = 5;

/** One coordination connection, from dialling to its end. A statement that fails or is not answered in time ends it. */
export class CoordinationConnection {
  /** Aborts when the connection is lost, and with it every lock that it held. */
  readonly lost: AbortSignal;
  error: Error | undefined;
  readonly #client: pg.Client;
  readonly #ended = new AbortController();
  #backend = 0;
  /** The end of the last statement that was asked for. */
  #before: Promise<unknown> = Promise.resolve();

  constructor(client: pg.Client) {
    this.#client = client;
    this.lost = this.#ended.signal;
    // After the end, too: a socket may fail more than once, and an error that nobody hears ends the process.
    client.on("error", (err) => this.#lose(err));
    client.on("end", () => this.#lose(undefined));
  }

  /** The server process that answered first. */
  get backend(): number {
    return this.#backend;
  }

  /** One statement after the other: a client that is asked for more at once will refuse it one day. */
  #query<R extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<pg.QueryResult<R>> {
    const answer = this.#before.then(() => this.#client.query<R>(text, [...values]));
    this.#before = answer.catch(() => {});
    return answer;
  }

  async open(): Promise<void> {
    await this.#client.connect();
    // A host that vanishes is noticed by the server within about ten seconds, and the locks are free again.
    await this.#client.query(
      "set tcp_keepalives_idle = 4; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3",
    );
    this.#backend = await this.backendNow();
  }

  async backendNow(): Promise<number> {
    const { rows } = await this.#query<{ pid: number }>("select pg_backend_pid() as pid");
    return rows[0]?.pid ?? 0;
  }

  /**
   * Takes the replica's own lock. Only an earlier connection of this replica, which the server still believes in, can
   * have it: that one is ended.
   */
  async takeOver(key: bigint): Promise<void> {
    for (let attempt = 0; attempt < TAKE_OVER_ATTEMPTS; attempt += 1) {
      if (await this.#tryLock(key)) return;
      await this.#query(END_HOLDERS, [String(key)]);
    }
    throw new Error("the replica's lock is still held by an earlier connection");
  }

  /** Whether the lock was obtained. A call that fails may still be granted with nobody waiting: it ends the connection. */
  async tryLock(key: number): Promise<boolean> {
    return (await this.#orLose(this.#tryLock(key))) ?? false;
  }

  /** Ends whoever holds the lock of a sweep and is no living replica's coordination connection. Whether there was one. */
  endStrayHolders(key: number): Promise<boolean> {
    return this.#endHolders(END_STRAY_HOLDERS, key);
  }

  /** False when the lock was not held where it was taken: then the connection is pooled, and is ended. */
  async unlock(key: number): Promise<boolean> {
    const unlocked = (await this.#orLose(this.#unlock(key))) ?? true;
    if (unlocked) return true;
    // It is ours alone, and left behind in the pooler.
    await this.#endHolders(END_HOLDERS, key);
    this.#lose(new Error("an advisory lock was not held where it was taken"));
    return false;
  }

  /** Whether the connection lives, on the server process that it began with, and holds the replica's lock there. */
  async look(key: bigint): Promise<Look> {
    const looked = await this.#orLose(
      this.#query<{ pid: number; mine: boolean }>(`select pg_backend_pid() as pid, ${MINE} as mine`, [String(key)]),
    );
    const row = looked?.rows[0];
    if (!row) return "no answer";
    if (row.pid !== this.#backend) return "elsewhere";
    return row.mine ? "ours" : "lock lost";
  }

  /** Ends the connection at once, whatever it is doing. */
  destroy(): void {
    this.#lose(undefined);
  }

  async #tryLock(key: number | bigint): Promise<boolean> {
    const { rows } = await this.#query<{ got: boolean }>("select pg_try_advisory_lock($1::bigint) as got", [
      String(key),
    ]);
    return rows[0]?.got === true;
  }

  async #unlock(key: number): Promise<boolean> {
    const { rows } = await this.#query<{ unlocked: boolean }>("select pg_advisory_unlock($1::bigint) as unlocked", [
      String(key),
    ]);
    return rows[0]?.unlocked === true;
  }

  /** Whether any was ended. Not to be allowed to end a holder is no reason to lose this connection. */
  async #endHolders(statement: string, key: number): Promise<boolean> {
    try {
      const { rowCount } = await this.#query(statement, [String(key)]);
      return (rowCount ?? 0) > 0;
    } catch (err) {
      if (!(err instanceof pg.DatabaseError)) this.#lose(err instanceof Error ? err : new Error(String(err)));
      return false;
    }
  }

  async #orLose<T>(statement: Promise<T>): Promise<T | undefined> {
    try {
      return await statement;
    } catch (err) {
      this.#lose(err instanceof Error ? err : new Error(String(err)));
      return undefined;
    }
  }

  #lose(err: Error | undefined): void {
    this.error ??= err;
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    // end() alone would wait for a statement that is never answered.
    void this.#client.end().catch(() => {});
    this.#client.connection.stream.destroy();
  }
}

/**
 * Whether a second connection to `url` gets the very server process that the first one was answered by: then both are
 * clients of a transaction pooler. Not all poolers are found so; a look that finds another process finds the rest.
 */
export const sharesServerConnections = async (first: CoordinationConnection, url: string): Promise<boolean> => {
  const second = new pg.Client({ connectionString: url, connectionTimeoutMillis: 4_000, query_timeout: 2_000 });
  second.on("error", () => {});
  try {
    await second.connect();
    await second.query("begin");
    const { rows } = await second.query<{ pid: number }>("select pg_backend_pid() as pid");
    if (rows[0]?.pid === first.backend) return true;
    // A pooler that hands out server connections in turn shows itself when asked a few times.
    for (let look = 0; look < LOOKS; look += 1) if ((await first.backendNow()) !== first.backend) return true;
    return false;
  } catch {
    // No second connection to be had: the periodic look will tell.
    return false;
  } finally {
    await second.end().catch(() => {});
  }
};
