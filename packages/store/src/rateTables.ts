import type { Json, Time } from "./columnTypes.ts";

export interface RateBucketsTable {
  key: string;
  full_at: Time;
  granted: number;
}

export interface OpenStreamsTable {
  whom: string;
  held: Json<Record<string, number>>;
  kept: number;
  granted: number;
}

/** Budgets that replicas share, and what is held open. */
export interface RateTables {
  rate_buckets: RateBucketsTable;
  open_streams: OpenStreamsTable;
}
