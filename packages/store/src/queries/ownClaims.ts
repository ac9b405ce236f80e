import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** Something that a replica has claimed and not ended. */
export interface OwnClaim {
  readonly kind: "message" | "dispatch";
  readonly id: Uuid;
  readonly sessionId: Uuid;
  readonly runtimeBrokerId: Uuid | null;
  readonly agentId: Uuid | null;
}

/** Everything that `instanceId` has claimed now. By index: what others have claimed costs nothing. */
export const ownClaims = async (db: Db, instanceId: Uuid): Promise<OwnClaim[]> => {
  const { rows } = await sql<OwnClaim>`
    select 'message' as kind, id, claim_session as "sessionId", runtime_broker_id as "runtimeBrokerId",
        agent_id as "agentId"
      from messages where state = 'delivering' and claimed_by = ${instanceId}
    union all
    select 'dispatch', id, claim_session, runtime_broker_id, agent_id
      from broker_dispatch where state = 'in_progress' and claimed_by = ${instanceId}`.execute(db);
  return rows;
};
