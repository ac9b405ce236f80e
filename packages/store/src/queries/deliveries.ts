import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import type { MessageState } from "../tables.ts";
import { delivered, type EndedDelivery, ended, isState } from "./messageConditions.ts";

/** How messages end, or wait again: delivered, failed or given back, each only under the claim that they went with. */

/** See `stillOurs` of dispatches: a claim that was voided counts while the socket that acknowledged still owns. */
const stillOurs = (instanceId: Uuid) => sql`(
    (${isState("delivering")} and m.claimed_by = ${instanceId} and m.claim_session = e.session)
    or (${isState("pending")} and exists (select from runtime_brokers rb where rb.id = m.runtime_broker_id
        and rb.connected_hub_id = ${instanceId} and rb.connected_session_id = e.session for share)))`;

/** A message that counts as delivered, and whether its agent has more that waits. */
export interface SettledDelivery {
  readonly id: Uuid;
  readonly more: boolean;
}

/** Marks acknowledged messages delivered. Those whose claim has moved on are left alone, and missing in the result. */
export const settleDelivered = async (
  db: Db,
  p: { readonly instanceId: Uuid; readonly deliveries: readonly EndedDelivery[] },
): Promise<SettledDelivery[]> => {
  const { rows } = await sql<SettledDelivery>`
    with locked as materialized (
      select m.id, e.session from messages m join ${ended(p.deliveries)} e on e.id = m.id
       where ${stillOurs(p.instanceId)} order by m.id for update of m)
    update messages m set ${delivered(p.instanceId)} from locked e where m.id = e.id
    returning m.id, (select true from messages o where o.agent_id = m.agent_id
      and o.state = 'pending' and o.id <> m.id order by o.seq limit 1) is not null as more`.execute(db);
  return rows;
};

/** Marks a message failed for good. False when the claim has moved on. */
export const failMessage = async (
  db: Db,
  p: { readonly instanceId: Uuid; readonly delivery: EndedDelivery; readonly error: string },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    update messages m set state = 'failed', error = ${p.error}
      from ${ended([p.delivery])} e where m.id = e.id and ${stillOurs(p.instanceId)}`.execute(db);
  return numAffectedRows === 1n;
};

/** Gives messages back: pending again, with the reason why they wait. */
export const releaseMessages = async (
  db: Db,
  p: { readonly instanceId: Uuid; readonly deliveries: readonly EndedDelivery[]; readonly reason: string },
): Promise<void> => {
  await sql`
    update messages m set state = 'pending', hold_reason = ${p.reason}, claimed_by = null, claim_session = null
      from ${ended(p.deliveries)} e
     where m.id = e.id and ${isState("delivering")} and m.claimed_by = ${p.instanceId} and m.claim_session = e.session
  `.execute(db);
};

export interface MessageOutcome {
  readonly id: Uuid;
  readonly state: MessageState | null;
  readonly holdReason: string | null;
  readonly error: string | null;
}

/** Where these messages stand; missing ones are left out. */
export const messageOutcomes = (db: Db, ids: readonly Uuid[]): Promise<MessageOutcome[]> =>
  db
    .selectFrom("messages")
    .select(["id", "state", "error"])
    // Kept for the trace once it is over.
    .select(sql<string | null>`case when state = 'pending' then hold_reason end`.as("holdReason"))
    .where("id", "in", ids)
    .execute();

/** Fails what an agent that is about to be deleted will never receive. Returns the ids. */
export const failUndeliveredOfAgent = async (db: Db, agentId: Uuid, error: string): Promise<Uuid[]> => {
  const of = (state: "pending" | "delivering") => sql`select id from messages
    where agent_id = ${agentId} and state = ${sql.lit(state)}`;
  const { rows } = await sql<{ id: Uuid }>`
    with undelivered as materialized (
      select id from messages where id in (${of("pending")} union all ${of("delivering")}) order by id for update)
    update messages m set state = 'failed', error = ${error}
      from undelivered where m.id = undelivered.id and m.state in ('pending', 'delivering')
    returning m.id`.execute(db);
  return rows.map((r) => r.id);
};
