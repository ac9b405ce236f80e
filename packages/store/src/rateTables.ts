import type { Time } from "./columnTypes.ts";

export interface RateBucketsTable {
  key: string;
  full_at: Time;
  granted: number;
}

/** Budgets that replicas share. */
export interface RateTables {
  rate_buckets: RateBucketsTable;
}
