import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** A value gathered from a person's environment, as it is stored: encrypted. */
export interface KeptValue {
  readonly key: string;
  readonly value: Buffer;
}

/** Keeps the values for later starts of the agent; those of the same keys are replaced. */
export const keepValues = async (db: Db, agentId: Uuid, values: readonly KeptValue[]): Promise<void> => {
  if (values.length === 0) return;
  await db
    .insertInto("agent_kept_values")
    .values(values.map((v) => ({ agent_id: agentId, key: v.key, value: v.value })))
    .onConflict((c) => c.columns(["agent_id", "key"]).doUpdateSet({ value: sql`excluded.value`, updated: sql`now()` }))
    .execute();
};

/** Everything kept for the agent, by key. */
export const keptValues = (db: Db, agentId: Uuid): Promise<KeptValue[]> =>
  db.selectFrom("agent_kept_values").select(["key", "value"]).where("agent_id", "=", agentId).orderBy("key").execute();

/** Forgets everything kept for the agent. */
export const forgetValues = async (db: Db, agentId: Uuid): Promise<void> => {
  await db.deleteFrom("agent_kept_values").where("agent_id", "=", agentId).execute();
};
