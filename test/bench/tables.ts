import type { BenchDatabase } from "./cluster.ts";

/** How large a table is, in bytes, and how many of its rows are dead. */
export interface TableSize {
  readonly table: number;
  readonly indexes: number;
  readonly live: number;
  readonly dead: number;
}

/** The tables that are written all the time. */
export const BUSY_TABLES = [
  "messages",
  "change_log",
  "broker_dispatch",
  "runtime_broker_heartbeats",
  "seen_nonces",
  "stream_frames",
  "hub_replicas",
  "sweeps",
  "agents",
  "runtime_brokers",
  "idempotency_keys",
  "rate_buckets",
  "open_streams",
  "trace_hops",
] as const;

/** The sizes of these tables now. */
export const tableSizes = async (database: BenchDatabase): Promise<ReadonlyMap<string, TableSize>> => {
  const rows = await database.query<{ name: string } & TableSize>(
    `select relname as name, pg_table_size(relid)::float8 as table, pg_indexes_size(relid)::float8 as indexes,
            n_live_tup::float8 as live, n_dead_tup::float8 as dead
       from pg_stat_user_tables where relname = any($1)`,
    [[...BUSY_TABLES]],
  );
  return new Map(rows.map(({ name, ...size }) => [name, size]));
};
