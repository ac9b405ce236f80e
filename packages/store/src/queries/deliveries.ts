import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import type { MessageState, MessagesTable } from "../tables.ts";
import { targetStamp } from "./dispatchTargets.ts";
import { type Claim, type ClaimScope, heldSockets, uuids } from "./heldSockets.ts";

/**
 * Messages on their way to agents (design section 5): pending → delivering → delivered | failed. One message of an
 * agent is in flight at a time (a unique index says so); order is `seq`.
 */

export type MessageRow = Selectable<MessagesTable>;

/** A claimed message with what its way to the agent needs, and no more: claims are made by the thousand. */
export interface ClaimedMessage {
  readonly id: Uuid;
  readonly agentId: Uuid;
  readonly agentSlug: string;
  readonly projectId: Uuid;
  readonly runtimeBrokerId: Uuid;
  readonly sessionId: Uuid;
  readonly msg: string;
  readonly envelope: Readonly<Record<string, unknown>>;
  readonly interrupt: boolean;
  /** This one included. */
  readonly attempts: number;
  readonly traceparent: string | null;
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

/** Whether a message of the agent `a` is on its way to it. */
const inFlight = sql<boolean>`(select true from messages f
  where f.agent_id = a.id and f.state = 'delivering' limit 1) is not null`;

/** Whether every message of the agent `a` but those in `passing` has reached it, or never will. In order, so that no index of all serves. */
const nothingUndelivered = (passing: RawBuilder<unknown>) => sql<boolean>`(
  (select true from messages o where o.agent_id = a.id and o.state = 'pending' order by o.seq limit 1) is null
  and (select true from messages f where f.agent_id = a.id and f.state = 'delivering' and f.id <> all(${passing}) limit 1)
    is null)`;

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
  /**
   * The stamp of the target on which it was decided that the message is accepted: when that has changed meanwhile, the
   * message is not stored. Undefined: decided on what was read for it.
   */
  readonly stamp?: string;
}

/** What goes beside the text of a message is worth trimming later from so many characters on. */
const BULKY_FROM = 512;

/** Messages as one parameter, whatever their number: one statement text serves them all. */
const recordset = (messages: readonly NewMessage[], acceptedBy: Uuid) => {
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
    bulky: JSON.stringify(m.envelope).length > BULKY_FROM,
    interrupt: m.interrupt,
    created_by: m.createdBy,
    traceparent: m.traceparent,
    hold_reason: m.holdReason,
    accepted_by: acceptedBy,
    stamp: m.stamp,
  }));
  return sql`json_to_recordset(${JSON.stringify(rows)}::json) as given(
      id uuid, project_id uuid, agent_id uuid, runtime_broker_id uuid, sender text, sender_id uuid, recipient text,
      recipient_id uuid, msg text, type text, urgent boolean, broadcasted boolean, group_id text, channel text,
      thread_id text, envelope jsonb, bulky boolean, interrupt boolean, created_by uuid, traceparent text,
      hold_reason text, accepted_by uuid, stamp bigint)`;
};

/** The agent `a` of the message `m`, with what its stamp is made of: locked against deletion, and its project with it. */
const stampedAgent = sql`(agents a join projects p on p.id = a.project_id
  left join runtime_brokers rb on rb.id = a.runtime_broker_id)`;
const isUnchanged = sql<boolean>`(m.stamp is null or m.stamp = ${targetStamp})`;

const columns = sql.raw(`id, project_id, agent_id, runtime_broker_id, sender, sender_id, recipient, recipient_id, msg,
  type, urgent, broadcasted, group_id, channel, thread_id, envelope, bulky, interrupt, created_by, traceparent,
  hold_reason, accepted_by`);

/** Messages to store, and the replica that accepted them. */
export interface Accepted {
  readonly messages: readonly NewMessage[];
  readonly acceptedBy: Uuid;
}

/**
 * Stores messages that wait for their agents, in no order among each other. One statement and one commit for all: under
 * load they cost a third of what each costs alone. Repeated, it changes nothing. Returns the ids of those that were not stored
 * because their agent is gone, or not what it was when they were accepted; one that was stored before is none of them.
 */
export const insertPendingMessages = async (db: Db, p: Accepted): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`
    with m as materialized (select * from ${recordset(p.messages, p.acceptedBy)}),
      there as materialized (
        select m.id from (select * from m order by agent_id offset 0) as m cross join lateral (
          select a.id from ${stampedAgent} where a.id = m.agent_id and ${isUnchanged} offset 0 for key share of a) as agent),
      stored as (
        insert into messages (${columns}, state) select ${columns}, 'pending' from m
         where m.id in (select id from there) on conflict (id) do nothing)
    select id from m where m.id not in (select id from there)
       and not exists (select from messages stored_before where stored_before.id = m.id)`.execute(db);
  return rows.map((r) => r.id);
};

/**
 * Stores a message to a person: it is delivered by being read. Repeated, it changes nothing. False when the project, or
 * the agent that writes, is gone.
 */
export const insertInboxMessage = async (
  db: Db,
  p: { readonly message: NewMessage; readonly acceptedBy: Uuid },
): Promise<boolean> => {
  const { rows } = await sql`
    with m as materialized (select * from ${recordset([p.message], p.acceptedBy)}),
      there as materialized (
        select p.id from m join projects p on p.id = m.project_id
         where m.agent_id is null or m.agent_id = (select a.id from agents a where a.id = m.agent_id for key share)
         for key share of p),
      stored as (
        insert into messages (${columns}) select ${columns} from m where exists (select from there)
        on conflict (id) do nothing)
    select from there`.execute(db);
  return rows.length > 0;
};

/** What an insert of a claimed message did. */
export interface ClaimedInsert {
  readonly stored: boolean;
  /** Those of the acknowledged messages that count as delivered now. */
  readonly settled: readonly Uuid[];
}

/**
 * Stores a message already claimed for the socket that this replica holds, if nothing of its agent is undelivered and
 * the agent listens. If not, it goes the common way, as pending. Marks the agent's `acknowledged` messages delivered
 * first, which would be in its way; those in `settling` are about to be, by another statement.
 */
export const insertClaimedMessage = async (
  db: Db,
  p: {
    readonly message: NewMessage;
    readonly acceptedBy: Uuid;
    readonly claim: Claim;
    readonly acknowledged: readonly EndedDelivery[];
    readonly settling: readonly Uuid[];
  },
): Promise<ClaimedInsert> => {
  const passing = uuids([...p.acknowledged.map((d) => d.id), ...p.settling]);
  const { rows } = await sql<ClaimedInsert>`
    with m as materialized (select * from ${recordset([p.message], p.acceptedBy)}),
      fence as materialized (
        select rb.id from m join runtime_brokers rb on rb.id = m.runtime_broker_id
         where rb.connected_hub_id = ${p.claim.instanceId} and rb.connected_session_id = ${p.claim.sessionId}
         for share of rb),
      settled as (
        update messages m set ${delivered(p.claim.instanceId)} from ${ended(p.acknowledged)} e
         -- Asked first: the runtime broker's row is locked before any message's.
         where exists (select from fence) and m.id = e.id and ${isState("delivering")} and m.claimed_by = ${p.claim.instanceId}
           and m.claim_session = e.session
        returning m.id),
      there as materialized (
        select a.id from m join ${stampedAgent} on a.id = m.agent_id
         where ${isUnchanged} and ${listens} and ${undisturbed} and ${nothingUndelivered(passing)}
         for key share of a),
      stored as (
        insert into messages (${columns}, state, claimed_by, claim_session, claimed_at, attempts)
        select ${columns}, 'delivering', ${p.claim.instanceId}, ${p.claim.sessionId}, now(), 1 from m
         -- Counted first: what is settled must be out of the way of the one that takes its place.
         where (select count(*) from settled) >= 0 and exists (select from fence) and exists (select from there)
        on conflict (agent_id) where state = 'delivering' do nothing
        returning id)
    select exists (select from stored) as stored, array(select id from settled) as settled`.execute(db);
  return rows[0] ?? { stored: false, settled: [] };
};

/**
 * A claim need not be on disk when it is answered. One that a crash of the database forgets is a message that is pending
 * again while its socket lives: whoever has it on the wire takes it back, and otherwise it goes once more under its id.
 */
const relaxed = sql`relaxed as materialized (select set_config('synchronous_commit', 'off', true) as done)`;

/**
 * The parts `locked` and `claimed` of a claim of the messages that `next(id, session, runtime_broker, slug)` names. Not
 * SKIP LOCKED: skipping a locked message would let a later one overtake it.
 */
const claimNext = (instanceId: Uuid) => sql`
    locked as materialized (
      select m.id, next.session, next.runtime_broker, next.slug from next join messages m on m.id = next.id
       where ${isState("pending")} order by m.id for update of m
    ), claimed as (
      update messages m set state = 'delivering', claimed_by = ${instanceId}, claim_session = locked.session,
          claimed_at = now(), runtime_broker_id = locked.runtime_broker, attempts = m.attempts + 1
        from locked, relaxed where m.id = locked.id
      returning m.id, m.agent_id as "agentId", locked.slug as "agentSlug", m.project_id as "projectId",
        m.runtime_broker_id as "runtimeBrokerId", m.claim_session as "sessionId", m.msg, m.envelope, m.interrupt,
        m.attempts, m.traceparent
    )`;

/** The first message of the agent `a` that waits, as `head`. */
const headOfAgent = sql`
  (select m.id, m.seq from messages m where m.agent_id = a.id and m.state = 'pending' order by m.seq limit 1) as head`;

/**
 * Claims, for each agent that listens and has none in flight, its first pending message: at most `slots` for each
 * socket held. Where a message was committed late, before one that is in flight, the unique index refuses the claim,
 * and the caller looks again.
 */
export const claimMessages = async (db: Db, p: ClaimScope): Promise<ClaimedMessage[]> => {
  const { rows } = await sql<ClaimedMessage>`
    with ${heldSockets(p)}, ${relaxed}, next as materialized (
      select ranked.id, held.session, held.id as runtime_broker, ranked.slug from held
       cross join lateral (
         select a.head as id, a.slug from (
           select a.id, a.slug, head.id as head, head.seq from agents a cross join lateral ${headOfAgent}
            where a.runtime_broker_id = held.id and ${listens} and a.id <> all(${uuids(p.busyAgents)})
            offset 0) as a
          where not ${inFlight} and ${undisturbed}
          order by a.seq limit held.slots) as ranked
    ), ${claimNext(p.instanceId)}
    select * from claimed`.execute(db);
  return rows;
};

/** An agent for which a message is said to wait, and where it is said to run. */
export interface AgentAt {
  readonly agentId: Uuid;
  readonly runtimeBrokerId: Uuid;
}

/**
 * As `claimMessages`, of these agents alone: what was signalled costs no look at all the others of the runtime broker.
 * The caller names no more agents of a runtime broker than its socket takes.
 */
export const claimMessagesOf = async (
  db: Db,
  p: ClaimScope & { readonly agents: readonly AgentAt[] },
): Promise<ClaimedMessage[]> => {
  const { rows } = await sql<ClaimedMessage>`
    with ${heldSockets(p)}, ${relaxed}, next as materialized (
      select waiting.id, held.session, held.id as runtime_broker, waiting.slug
        from unnest(${uuids(p.agents.map((a) => a.agentId))}, ${uuids(p.agents.map((a) => a.runtimeBrokerId))})
          as woken(agent, runtime_broker)
        join held on held.id = woken.runtime_broker
       -- "offset 0" keeps this a look-up per agent, whatever the planner knows of the tables.
       cross join lateral (
         select head.id, a.slug from (select * from agents where id = woken.agent offset 0) as a
          cross join lateral ${headOfAgent}
          where a.runtime_broker_id = held.id and ${listens} and a.id <> all(${uuids(p.busyAgents)})
            and not ${inFlight} and ${undisturbed} offset 0) as waiting
    ), ${claimNext(p.instanceId)}
    select * from claimed`.execute(db);
  return rows;
};

/** A message whose delivery ended, and the claim under which it went. */
export interface EndedDelivery {
  readonly id: Uuid;
  readonly sessionId: Uuid;
}

const ended = (deliveries: readonly EndedDelivery[]) => sql`
  (select e.id, e.session from unnest(${uuids(deliveries.map((d) => d.id))}, ${uuids(deliveries.map((d) => d.sessionId))})
     as e(id, session))`;

/** What the row of a delivered message says; who delivered it stays on it. */
const delivered = (instanceId: Uuid) =>
  sql`state = 'delivered', dispatched_at = now(), error = null, claimed_by = ${instanceId}, claim_session = e.session`;

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
