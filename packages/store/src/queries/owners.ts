import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** The replica that holds a runtime broker's socket, as affinity says: a hint, which the replica itself confirms. */
export interface Owner {
  readonly instanceId: Uuid;
  /** Where other replicas reach it; null when it told none. */
  readonly internalUrl: string | null;
}

/** The owner of the runtime broker's socket; undefined when nobody holds it. */
export const ownerOf = (db: Db, runtimeBrokerId: Uuid): Promise<Owner | undefined> =>
  db
    .selectFrom("runtime_brokers as rb")
    .innerJoin("hub_replicas as r", "r.instance_id", "rb.connected_hub_id")
    .select(["r.instance_id as instanceId", "r.internal_url as internalUrl"])
    .where("rb.id", "=", runtimeBrokerId)
    .executeTakeFirst();

/** Whether a socket is expected at any moment: somebody holds one, or the last ended less than `seconds` ago. */
export const isBetweenSockets = async (db: Db, runtimeBrokerId: Uuid, seconds: number): Promise<boolean> => {
  const { rows } = await sql<{ soon: boolean | null }>`
    select connected_hub_id is not null or disconnected_at > now() - make_interval(secs => ${seconds}::float8) as soon
      from runtime_brokers where id = ${runtimeBrokerId}`.execute(db);
  return rows[0]?.soon ?? false;
};
