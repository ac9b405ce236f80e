import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { type Given, statement } from "../statement.ts";
import { type AgentView, agentViews, isThere } from "./agentViews.ts";
import type { DispatchRow } from "./dispatches.ts";
import { uuids } from "./heldSockets.ts";

/** How an intent stands, and its agent at the same moment; null when that is gone. */
export interface DispatchOutcome extends Pick<DispatchRow, "id" | "state" | "result" | "error"> {
  readonly agent: AgentView | null;
}

const reading = statement((given: Given<readonly Uuid[]>, db) =>
  agentViews(db)
    .rightJoin("broker_dispatch as d", "d.agent_id", "agents.id")
    .select(["d.id as d_id", "d.state as d_state", "d.result as d_result", "d.error as d_error"])
    .where(sql<boolean>`d.id = any(${uuids(given, (ids) => ids)})`),
);

/** How these intents stand, in no order; missing ones are left out. One snapshot: an intent that has ended is never seen beside its agent of before. */
export const dispatchOutcomes = async (db: Db, ids: readonly Uuid[]): Promise<DispatchOutcome[]> => {
  const { rows } = await reading(db, ids);
  return rows.map(({ d_id: id, d_state: state, d_result: result, d_error: error, ...agent }) => ({
    id,
    state,
    result,
    error,
    agent: isThere(agent) ? agent : null,
  }));
};
