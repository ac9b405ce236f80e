import { type Clock, systemClock } from "@rootstock/service";
import { Database } from "@rootstock/store";
import { type TestStore, testBase } from "@rootstock/testkit";
import pg from "pg";
import { RateLimited } from "./index.ts";

/** A clock whose `elapsed` stands still until the test moves it on; its timers are the machine's. */
export const movedClock = (): { readonly clock: Clock; readonly move: (ms: number) => void } => {
  let now = 1_000_000;
  return {
    clock: { ...systemClock, elapsed: () => now },
    move: (ms) => {
      now += ms;
    },
  };
};

/** A database that is not there. To be stopped. */
export const databaseAway = (): Database =>
  new Database({
    url: "postgres://nobody@127.0.0.1:1/none",
    pooled: false,
    poolSize: 1,
    applicationName: "test",
    ...testBase(),
  });

/** 0 for what passed, else after how many seconds the refusal says to come again. */
export const refusedFor = async (work: () => void | Promise<void>): Promise<number> => {
  try {
    await work();
    return 0;
  } catch (err) {
    if (err instanceof RateLimited) return err.retryAfter ?? Number.NaN;
    throw err;
  }
};

/** Makes whatever asks for buckets wait until it is told to go on. */
export const holdBuckets = async ({ url }: TestStore): Promise<() => Promise<void>> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("begin; lock table rate_buckets");
  return () => client.end();
};
