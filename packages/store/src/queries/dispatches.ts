import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import type { BrokerDispatchTable } from "../tables.ts";
import { type AgentView, isThere, viewOfWritten } from "./agentViews.ts";
import { waitsUntil } from "./givenBack.ts";
import { type Claim, type ClaimScope, heldSockets, uuids } from "./heldSockets.ts";
import { type HaltedPhase, haltedValues } from "./lifecycle.ts";
import { tellAgents } from "./unansweredOperations.ts";

/**
 * Lifecycle intents (design section 5): pending → in_progress → done | failed, pending → expired. Every claim reads the
 * runtime broker's affinity row FOR SHARE in its own statement, so that it cannot commit beside a newer socket's claim;
 * every settling statement repeats the claim.
 */

export type DispatchRow = Selectable<BrokerDispatchTable>;

const claiming = statement<ClaimScope, DispatchRow>(
  (given) => sql`
    with ${heldSockets(given)}, next as materialized (
      select d.id, held.session from held
       cross join lateral (
         select d.id from broker_dispatch d
          where d.runtime_broker_id = held.id and d.state = 'pending' and d.deadline_at > now()
            and d.agent_id <> all(${uuids(given, (p) => p.busyAgents)})
            and (select true from broker_dispatch e where e.agent_id = d.agent_id
              and e.state in ('pending', 'in_progress') and e.seq < d.seq limit 1) is null
          order by d.seq limit held.slots) as first
        join broker_dispatch d on d.id = first.id
       where coalesce(d.state, '') = 'pending'
       order by d.id for update of d skip locked
    )
    update broker_dispatch d set state = 'in_progress', claimed_by = ${given((p) => p.instanceId)},
        claim_session = next.session, attempts = d.attempts + 1, claimed_at = now(), updated_at = now()
      from next where d.id = next.id
    returning d.*`,
);

/**
 * Claims the oldest pending intents of the sockets held, at most `slots` for each, one per agent, and never beside an
 * unfinished one of the same agent. `busyAgents` are those with an operation under way on this replica.
 */
export const claimDispatches = async (db: Db, p: ClaimScope): Promise<DispatchRow[]> => (await claiming(db, p)).rows;

/** A claim, or its values in a statement. */
interface ClaimValues {
  readonly instanceId: Uuid | RawBuilder<Uuid>;
  readonly sessionId: Uuid | RawBuilder<Uuid>;
}

/**
 * The condition under which a result counts: the claim still stands, or it was taken back (this replica was thought
 * dead) while the very socket that has the answer is still the runtime broker's own.
 */
const stillOurs = (claim: ClaimValues) => sql<boolean>`(
    (d.state = 'in_progress' and d.claimed_by = ${claim.instanceId} and d.claim_session = ${claim.sessionId})
    or (d.state = 'pending' and exists (select from runtime_brokers rb where rb.id = d.runtime_broker_id
        and rb.connected_hub_id = ${claim.instanceId} and rb.connected_session_id = ${claim.sessionId} for share)))`;

/** Marks an intent done. False when the claim has moved on: then nothing of the result counts. */
export const completeDispatch = async (
  db: Db,
  p: { readonly id: Uuid; readonly claim: Claim; readonly result: Readonly<Record<string, unknown>> },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    update broker_dispatch d set state = 'done', result = ${JSON.stringify(p.result)}::jsonb, error = null,
        claimed_by = ${p.claim.instanceId}, claim_session = ${p.claim.sessionId}, updated_at = now()
     where d.id = ${p.id} and ${stillOurs(p.claim)}`.execute(db);
  return numAffectedRows === 1n;
};

interface EndedHalt {
  readonly id: Uuid;
  readonly claim: Claim;
  readonly agentId: Uuid;
  readonly phase: HaltedPhase;
}

/** That an intent has been marked, its agent as that left it, and whether another of the agent waits. */
export interface CompletedHalt {
  readonly agent: AgentView | undefined;
  readonly more: boolean;
}

const completingHalt = statement<EndedHalt, AgentView & { readonly more: boolean }>((given) => {
  const claim = { instanceId: given((p) => p.claim.instanceId), sessionId: given((p) => p.claim.sessionId) };
  return sql`
    with ended as (
      update broker_dispatch d set state = 'done', result = '{}', error = null,
          claimed_by = ${claim.instanceId}, claim_session = ${claim.sessionId}, updated_at = now()
       where d.id = ${given((p) => p.id)} and ${stillOurs(claim)} returning d.id),
    halted as (
      update agents set ${haltedValues(given((p) => p.phase))}
       where id = ${given((p) => p.agentId)} and exists (select from ended) returning *)
    select v.*, (select true from broker_dispatch o where o.agent_id = ${given((p) => p.agentId)} and o.id <> ended.id
        and o.state in ('pending', 'in_progress') limit 1) is not null as more
      from ended left join (${viewOfWritten(sql`halted`)}) v on true`;
});

/**
 * Marks an intent done that ended its agent's run, and the agent with it, in one statement. Undefined when the claim has
 * moved on.
 */
export const completeHalt = async (db: Db, p: EndedHalt): Promise<CompletedHalt | undefined> => {
  const [row] = (await completingHalt(db, p)).rows;
  if (!row) return undefined;
  const { more, ...agent } = row;
  return { more, agent: isThere(agent) ? agent : undefined };
};

/** Marks an intent failed for good, with what the caller is told. False when the claim has moved on. */
export const failDispatch = async (
  db: Db,
  p: {
    readonly id: Uuid;
    readonly claim: Claim;
    readonly error: string;
    readonly result: Readonly<Record<string, unknown>>;
  },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    update broker_dispatch d set state = 'failed', result = ${JSON.stringify(p.result)}::jsonb, error = ${p.error},
        claimed_by = ${p.claim.instanceId}, claim_session = ${p.claim.sessionId}, updated_at = now()
     where d.id = ${p.id} and ${stillOurs(p.claim)}`.execute(db);
  return numAffectedRows === 1n;
};

/**
 * Gives an intent back after its socket was lost: pending again while attempts are left, else failed, which its agent
 * says. `sent: false` takes the attempt back too, because nothing of it left this replica. True when it has failed.
 */
export const releaseDispatch = async (
  db: Db,
  p: { readonly id: Uuid; readonly claim: Claim; readonly sent: boolean; readonly reason: string },
): Promise<boolean> => {
  const last = sql<boolean>`(${p.sent} and d.attempts >= d.max_attempts)`;
  const { rows } = await sql<{ state: string }>`
    with released as (
      update broker_dispatch d set state = case when ${last} then 'failed' else 'pending' end,
          attempts = d.attempts - case when ${p.sent} then 0 else 1 end,
          error = case when ${last} then ${`no attempts left: ${p.reason}`} else ${p.reason} end,
          hold_reason = ${p.reason}, claimed_by = null, claim_session = null, deadline_at = ${waitsUntil}, updated_at = now()
       where d.id = ${p.id} and d.state = 'in_progress'
         and d.claimed_by = ${p.claim.instanceId} and d.claim_session = ${p.claim.sessionId}
      returning d.agent_id, d.op, d.error, d.state),
    ${tellAgents(sql`(select * from released where state = 'failed')`)}
    select state from released`.execute(db);
  return rows[0]?.state === "failed";
};

/**
 * Withdraws an intent of which nothing has been sent: what is answered as failed never runs later, and has not run. One that
 * was sent and lost its socket may have been carried out.
 */
export const withdrawDispatch = async (db: Db, id: Uuid, reason: string): Promise<boolean> => {
  const result = await db
    .updateTable("broker_dispatch")
    .set({ state: "expired", error: reason, updated_at: sql<Date>`now()` })
    .where("id", "=", id)
    .where("state", "=", "pending")
    .where("attempts", "=", 0)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
};

/**
 * Runtime brokers whose socket this replica holds and for which something waits: the fallback of every lost signal.
 * Driven from the held rows by index, so that the pending work of absent runtime brokers costs nothing: told as `exists`,
 * all that is pending anywhere may be gathered into a hash first.
 */
export const runtimeBrokersWithWork = async (db: Db, instanceId: Uuid): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`
    select rb.id from runtime_brokers rb
     where rb.connected_hub_id = ${instanceId}
       and ((select true from broker_dispatch d where d.runtime_broker_id = rb.id and d.state = 'pending' limit 1)
         or (select true from messages m where m.runtime_broker_id = rb.id and m.state = 'pending' limit 1))
  `.execute(db);
  return rows.map((r) => r.id);
};
