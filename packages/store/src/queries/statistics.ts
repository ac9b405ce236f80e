import { sql } from "kysely";
import type { Db } from "../database.ts";

/** What the health answer counts (spec/02 section 8). */
export interface HubStatistics {
  readonly connectedRuntimeBrokers: number;
  readonly runningAgents: number;
  readonly projects: number;
}

/** Counts what lives now; an answer also shows that the database works. */
export const hubStatistics = async (db: Db): Promise<HubStatistics> => {
  const result = await sql<HubStatistics>`select
    (select count(*)::int from runtime_brokers where connected_hub_id is not null) as "connectedRuntimeBrokers",
    (select count(*)::int from agents where phase = 'running' and deleted_at is null) as "runningAgents",
    (select count(*)::int from projects) as "projects"`.execute(db);
  const row = result.rows[0];
  if (!row) throw new Error("the statistics query returned no row");
  return row;
};

/** What the database says of its own schema: its version, and the oldest code that may serve on it (design 9). */
export interface SchemaVersion {
  readonly version: number;
  readonly minCompatible: number;
  /** Whether the database refuses every write for now, as a standby does until it is promoted. */
  readonly readOnly: boolean;
}

/** Reads the schema's version; undefined where no migration was ever applied. */
export const schemaVersion = async (db: Db): Promise<SchemaVersion | undefined> => {
  const result = await sql<SchemaVersion>`
    select version, min_compatible as "minCompatible", current_setting('transaction_read_only')::boolean as "readOnly"
      from schema_version`.execute(db);
  return result.rows[0];
};
