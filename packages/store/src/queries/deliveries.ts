import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import type { MessageState } from "../tables.ts";
import { uuids } from "./heldSockets.ts";
import { delivered, type EndedDelivery, ended, isState } from "./messageConditions.ts";

/** How messages end, or wait again: delivered, failed or given back, each only under the claim that they went with. */

/** See `stillOurs` of dispatches: a claim that was voided counts while the socket that acknowledged still owns. */
const stillOurs = (instanceId: RawBuilder<Uuid>) => sql`(
    (${isState("delivering")} and m.claimed_by = ${instanceId} and m.claim_session = e.session)
    or (${isState("pending")} and exists (select from runtime_brokers rb where rb.id = m.runtime_broker_id
        and rb.connected_hub_id = ${instanceId} and rb.connected_session_id = e.session for share)))`;

/** A message that counts as delivered, and whether its agent has more that waits. */
export interface SettledDelivery {
  readonly id: Uuid;
  readonly more: boolean;
}

interface Deliveries {
  readonly instanceId: Uuid;
  readonly deliveries: readonly EndedDelivery[];
}

const settling = statement<Deliveries, SettledDelivery>((given) => {
  const instanceId = given((p) => p.instanceId);
  return sql`
    with locked as materialized (
      select m.id, e.session from messages m join ${ended(given, (p) => p.deliveries)} e on e.id = m.id
       where ${stillOurs(instanceId)} order by m.id for update of m)
    update messages m set ${delivered(instanceId)} from locked e where m.id = e.id
    returning m.id, (select true from messages o where o.agent_id = m.agent_id
      and o.state = 'pending' and o.id <> m.id order by o.seq limit 1) is not null as more`;
});

/** Marks acknowledged messages delivered. Those whose claim has moved on are left alone, and missing in the result. */
export const settleDelivered = async (db: Db, p: Deliveries): Promise<SettledDelivery[]> =>
  (await settling(db, p)).rows;

const failing = statement<Deliveries & { readonly error: string }, unknown>((given) => {
  const instanceId = given((p) => p.instanceId);
  return sql`
    update messages m set state = 'failed', error = ${given((p) => p.error)}
      from ${ended(given, (p) => p.deliveries)} e where m.id = e.id and ${stillOurs(instanceId)}`;
});

/** Marks a message failed for good. False when the claim has moved on. */
export const failMessage = async (
  db: Db,
  p: { readonly instanceId: Uuid; readonly delivery: EndedDelivery; readonly error: string },
): Promise<boolean> => {
  const { instanceId, error, delivery } = p;
  const { numAffectedRows } = await failing(db, { instanceId, error, deliveries: [delivery] });
  return numAffectedRows === 1n;
};

const releasing = statement<Deliveries & { readonly reason: string }, unknown>(
  (given) => sql`
    update messages m set state = 'pending', hold_reason = ${given((p) => p.reason)}, claimed_by = null,
        claim_session = null
      from ${ended(given, (p) => p.deliveries)} e
     where m.id = e.id and ${isState("delivering")} and m.claimed_by = ${given((p) => p.instanceId)}
       and m.claim_session = e.session`,
);

/** Gives messages back: pending again, with the reason why they wait. */
export const releaseMessages = async (db: Db, p: Deliveries & { readonly reason: string }): Promise<void> => {
  await releasing(db, p);
};

export interface MessageOutcome {
  readonly id: Uuid;
  readonly state: MessageState | null;
  readonly holdReason: string | null;
  readonly error: string | null;
}

// A reason is kept for the trace once it is over.
const outcomesOf = statement<readonly Uuid[], MessageOutcome>(
  (given) => sql`
    select id, state, error, case when state = 'pending' then hold_reason end as "holdReason"
      from messages where id = any(${uuids(given, (ids) => ids)})`,
);

/** Where these messages stand; missing ones are left out. */
export const messageOutcomes = async (db: Db, ids: readonly Uuid[]): Promise<MessageOutcome[]> =>
  (await outcomesOf(db, ids)).rows;
