import { type Base, startStages, stopStages, systemClock, systemRandom } from "@rootstock/service";
import { Coordination, Database, Listener, Signaller } from "@rootstock/store";
import { testLog } from "./recordedLogs.ts";

/** The store's share of one replica, without anything above it. */
export interface StoreStack {
  readonly base: Base;
  readonly database: Database;
  readonly signaller: Signaller;
  readonly listener: Listener;
  readonly coordination: Coordination;
  stop(): Promise<void>;
}

export interface StoreStackOptions {
  /** Where the session connections go; the database itself by default. */
  readonly directUrl?: string;
  readonly poolSize?: number;
  /** Shown in `pg_stat_activity`, followed by `-listener` and `-coordination`. */
  readonly name?: string;
}

/** The machine's clock and randomness, and a log that nobody sees. */
export const testBase = (): Base => ({ clock: systemClock, random: systemRandom, log: testLog() });

/** Starts a replica's connections to the database `url`. Stop it before the database is dropped. */
export const startStoreStack = async (url: string, options: StoreStackOptions = {}): Promise<StoreStack> => {
  const { directUrl = url, poolSize = 5, name = "stack" } = options;
  const base = testBase();
  const database = new Database({ url, pooled: false, poolSize, applicationName: name, ...base });
  const signaller = new Signaller({ database, ...base });
  const listener = new Listener(base, {
    directUrl,
    database,
    applicationName: `${name}-listener`,
    probeTimeoutMs: 500,
  });
  const coordination = new Coordination(base, { directUrl, applicationName: `${name}-coordination` });
  const stages = [[database], [signaller, listener, coordination]];
  await startStages(stages);
  return { base, database, signaller, listener, coordination, stop: () => stopStages(stages) };
};
