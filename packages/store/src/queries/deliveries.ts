import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import type { MessageState, MessagesTable } from "../tables.ts";
import { type Claim, type ClaimScope, heldSockets, uuids } from "./heldSockets.ts";

/**
 * Messages on their way to agents (design section 5): pending → delivering → delivered | failed. One message of an
 * agent is in flight at a time (a unique index says so); order is `seq`.
 */

export type MessageRow = Selectable<MessagesTable>;

/** A claimed message with what its way to the agent needs. */
export interface ClaimedMessage extends MessageRow {
  readonly agent_slug: string;
}

/** How long after `running` an agent that has reported nothing is taken to listen. */
export const LISTENS_AFTER_SECONDS = 15;

/** Whether the agent `a` takes messages now: it runs, and has reported an activity since its start, or long enough ago. */
const listens = sql<boolean>`(a.phase = 'running' and a.deleted_at is null
  and (a.ready_at is not null or a.running_since is null
    or a.running_since <= now() - make_interval(secs => ${sql.lit(LISTENS_AFTER_SECONDS)})))`;

/*
 * How the questions below are put matters. A plan is kept for long, perhaps since the tables were empty, and to the
 * planner a partial index of few rows looks as cheap to read whole as to look one row up in; but dead rows gather there.
 * A scalar `(select … limit 1)` is a look-up however it is planned; `not exists` may become a join.
 */

/** Whether no lifecycle operation waits for the agent `a`: it goes first, or the message would meet its end. */
const undisturbed = sql<boolean>`(select true from broker_dispatch d
  where d.agent_id = a.id and d.state in ('pending', 'in_progress') limit 1) is null`;

/** Whether every message of the agent `a` has reached it, or never will. In order, so that no index of all serves. */
const nothingUndelivered = sql<boolean>`(select true from messages o
  where o.agent_id = a.id and o.state in ('pending', 'delivering') order by o.seq limit 1) is null`;

/** Whether the message `m`, found by its id, is in this state; said so that only the index of ids serves. */
const isState = (state: MessageState) => sql<boolean>`coalesce(m.state, '') = ${sql.lit(state)}`;

export interface NewMessage {
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly agentId: Uuid | null;
  readonly runtimeBrokerId: Uuid | null;
  readonly sender: string;
  readonly senderId: Uuid | null;
  readonly recipient: string;
  readonly recipientId: Uuid | null;
  readonly msg: string;
  readonly type: string;
  readonly urgent: boolean;
  readonly broadcasted: boolean;
  readonly groupId: string | null;
  readonly channel: string | null;
  readonly threadId: string | null;
  readonly envelope: Readonly<Record<string, unknown>>;
  readonly interrupt: boolean;
  readonly holdReason: string | null;
  readonly createdBy: Uuid | null;
  readonly traceparent: string | null;
}

const values = (
  m: NewMessage,
) => sql`${m.id}::uuid, ${m.projectId}::uuid, ${m.agentId}::uuid, ${m.runtimeBrokerId}::uuid,
  ${m.sender}, ${m.senderId}::uuid, ${m.recipient}, ${m.recipientId}::uuid, ${m.msg}, ${m.type}, ${m.urgent}::boolean,
  ${m.broadcasted}::boolean, ${m.groupId}, ${m.channel}, ${m.threadId}, ${JSON.stringify(m.envelope)}::jsonb,
  ${m.interrupt}::boolean, ${m.createdBy}::uuid, ${m.traceparent}`;

const columns =
  sql.raw(`id, project_id, agent_id, runtime_broker_id, sender, sender_id, recipient, recipient_id, msg, type,
  urgent, broadcasted, group_id, channel, thread_id, envelope, interrupt, created_by, traceparent`);

/** Stores a message that waits for its agent. Repeated, it changes nothing. */
export const insertPendingMessage = async (db: Db, m: NewMessage): Promise<void> => {
  await sql`
    insert into messages (${columns}, hold_reason, state)
    values (${values(m)}, ${m.holdReason}, 'pending') on conflict (id) do nothing`.execute(db);
};

/**
 * Stores messages that wait for their agents, all or none. Their order is that of the list. One statement and one commit
 * for all: under load they cost half of what each costs alone. Repeated, it changes nothing.
 */
export const insertPendingMessages = async (db: Db, messages: readonly NewMessage[]): Promise<void> => {
  const rows = messages.map((m) => ({
    id: m.id,
    project_id: m.projectId,
    agent_id: m.agentId,
    runtime_broker_id: m.runtimeBrokerId,
    sender: m.sender,
    sender_id: m.senderId,
    recipient: m.recipient,
    recipient_id: m.recipientId,
    msg: m.msg,
    type: m.type,
    urgent: m.urgent,
    broadcasted: m.broadcasted,
    group_id: m.groupId,
    channel: m.channel,
    thread_id: m.threadId,
    envelope: m.envelope,
    interrupt: m.interrupt,
    created_by: m.createdBy,
    traceparent: m.traceparent,
    hold_reason: m.holdReason,
  }));
  await sql`
    insert into messages (${columns}, hold_reason, state)
    select ${columns}, hold_reason, 'pending' from json_to_recordset(${JSON.stringify(rows)}::json) as m(
      id uuid, project_id uuid, agent_id uuid, runtime_broker_id uuid, sender text, sender_id uuid, recipient text,
      recipient_id uuid, msg text, type text, urgent boolean, broadcasted boolean, group_id text, channel text,
      thread_id text, envelope jsonb, interrupt boolean, created_by uuid, traceparent text, hold_reason text)
    on conflict (id) do nothing`.execute(db);
};

/** Stores a message to a person: it is delivered by being read. Repeated, it changes nothing. */
export const insertInboxMessage = async (db: Db, m: NewMessage): Promise<void> => {
  await sql`insert into messages (${columns}) values (${values(m)}) on conflict (id) do nothing`.execute(db);
};

/**
 * Stores a message already claimed for the socket that this replica holds, if nothing of its agent is undelivered and
 * the agent listens. Undefined when not: then it goes the common way, as pending.
 */
export const insertClaimedMessage = async (
  db: Db,
  p: { readonly message: NewMessage; readonly claim: Claim },
): Promise<MessageRow | undefined> => {
  const m = p.message;
  const { rows } = await sql<MessageRow>`
    with fence as materialized (
      select 1 from runtime_brokers where id = ${m.runtimeBrokerId} and connected_hub_id = ${p.claim.instanceId}
        and connected_session_id = ${p.claim.sessionId} for share
    )
    insert into messages (${columns}, state, claimed_by, claim_session, attempts)
    select ${values(m)}, 'delivering', ${p.claim.instanceId}::uuid, ${p.claim.sessionId}::uuid, 1
      from agents a, fence
     where a.id = ${m.agentId} and ${listens} and ${undisturbed}
       and ${nothingUndelivered}
    on conflict (agent_id) where state = 'delivering' do nothing
    returning *`.execute(db);
  return rows[0];
};

/**
 * Claims, for each agent that listens and has none in flight, its first pending message: at most `slots` for each
 * socket held. A message in flight is the first undelivered one; where one before it was committed late, the unique
 * index refuses the claim, and the caller looks again. Tells as well whether intents wait for these sockets: most of the time
 * none do, and nobody need ask for them. Not SKIP LOCKED: skipping a locked message would let a later one overtake it.
 */
export const claimMessages = async (
  db: Db,
  p: ClaimScope,
): Promise<{ readonly messages: readonly ClaimedMessage[]; readonly lifecycleWaits: boolean }> => {
  const { rows } = await sql<(ClaimedMessage | { readonly id: null }) & { readonly lifecycle_waits: boolean }>`
    with ${heldSockets(p)}, first as materialized (
      select ranked.id, ranked.session, held.id as runtime_broker from held
       cross join lateral (
         select a.message_id as id, held.session from (
           select a.id, head.id as message_id, head.seq, head.state from agents a
            cross join lateral (
              select m.id, m.seq, m.state from messages m
               where m.agent_id = a.id and m.state in ('pending', 'delivering') order by m.seq limit 1) as head
            where a.runtime_broker_id = held.id and ${listens} and a.id <> all(${uuids(p.busyAgents)})
            offset 0) as a
          where a.state = 'pending' and ${undisturbed}
          order by a.seq limit held.slots) as ranked
    ), next as materialized (
      select m.id, first.session, first.runtime_broker from first join messages m on m.id = first.id
       where ${isState("pending")} order by m.id for update of m
    )
    , claimed as (
      update messages m set state = 'delivering', claimed_by = ${p.instanceId}, claim_session = next.session,
          runtime_broker_id = next.runtime_broker, attempts = m.attempts + 1, hold_reason = null
        from next where m.id = next.id
      returning m.*, (select a.slug from agents a where a.id = m.agent_id) as agent_slug
    )
    select claimed.*, exists (select from held cross join lateral (
        select from broker_dispatch d where d.runtime_broker_id = held.id and d.state = 'pending' order by d.seq limit 1
      ) as waiting) as lifecycle_waits
      from (select) as one left join claimed on true`.execute(db);
  return {
    messages: rows.filter((row): row is typeof row & ClaimedMessage => row.id !== null),
    lifecycleWaits: rows.some((row) => row.lifecycle_waits),
  };
};

/** A message whose delivery ended, and the claim under which it went. */
export interface EndedDelivery {
  readonly id: Uuid;
  readonly sessionId: Uuid;
}

const ended = (deliveries: readonly EndedDelivery[]) => sql`
  (select e.id, e.session from unnest(${uuids(deliveries.map((d) => d.id))}, ${uuids(deliveries.map((d) => d.sessionId))})
     as e(id, session))`;

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
      select m.id from messages m join ${ended(p.deliveries)} e on e.id = m.id
       where ${stillOurs(p.instanceId)} order by m.id for update of m)
    update messages m set state = 'delivered', dispatched_at = now(), claimed_by = null, claim_session = null, error = null
      from locked where m.id = locked.id
    returning m.id, (select true from messages o where o.agent_id = m.agent_id
      and o.state in ('pending', 'delivering') and o.id <> m.id order by o.seq limit 1) is not null as more`.execute(
    db,
  );
  return rows;
};

/** Marks a message failed for good. False when the claim has moved on. */
export const failMessage = async (
  db: Db,
  p: { readonly instanceId: Uuid; readonly delivery: EndedDelivery; readonly error: string },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    update messages m set state = 'failed', error = ${p.error}, claimed_by = null, claim_session = null
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
    .select(["id", "state", "hold_reason as holdReason", "error"])
    .where("id", "in", ids)
    .execute();

/** Fails what an agent that is about to be deleted will never receive. Returns the ids. */
export const failUndeliveredOfAgent = async (db: Db, agentId: Uuid, error: string): Promise<Uuid[]> => {
  const rows = await db
    .updateTable("messages")
    .set({ state: "failed", error, claimed_by: null, claim_session: null })
    .where("agent_id", "=", agentId)
    .where("state", "in", ["pending", "delivering"])
    .returning("id")
    .execute();
  return rows.map((r) => r.id);
};
