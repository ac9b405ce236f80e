import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { type Given, statement } from "../statement.ts";
import { isUnchanged, withStamp } from "./dispatchTargets.ts";
import type { Claim } from "./heldSockets.ts";
import { delivered, type EndedDelivery, ended, isState, listens, undisturbed } from "./messageConditions.ts";

/** Messages as they are accepted: stored pending, stored for a person, or already claimed for a socket that is held here. */

export interface NewMessage {
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly agentId: Uuid | null;
  readonly runtimeBrokerId: Uuid | null;
  readonly sender: string;
  readonly senderId: Uuid | null;
  /** Of whoever wrote it outside of this hub; never the id of anybody here. */
  readonly outsideSenderId?: string | undefined;
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
  /** The sender, or the runtime broker whose plugin has brought it in. */
  readonly createdBy: Uuid | null;
  readonly traceparent: string | null;
  /**
   * The stamp of the target on which it was decided that the message is accepted: when that has changed meanwhile, the
   * message is not stored. Undefined: decided on what was read for it.
   */
  readonly stamp?: string;
}

/** Messages to store, and the replica that accepted them. */
export interface Accepted {
  readonly messages: readonly NewMessage[];
  readonly acceptedBy: Uuid;
}

/** What goes beside the text of a message is worth trimming later from so many characters on. */
const BULKY_FROM = 512;

/** The columns of a message that is accepted, and their types. */
const COLUMNS = {
  id: "uuid",
  project_id: "uuid",
  agent_id: "uuid",
  runtime_broker_id: "uuid",
  sender: "text",
  sender_id: "uuid",
  outside_sender_id: "text",
  recipient: "text",
  recipient_id: "uuid",
  msg: "text",
  type: "text",
  urgent: "boolean",
  broadcasted: "boolean",
  group_id: "text",
  channel: "text",
  thread_id: "text",
  envelope: "jsonb",
  bulky: "boolean",
  interrupt: "boolean",
  created_by: "uuid",
  traceparent: "text",
  hold_reason: "text",
  accepted_by: "uuid",
} as const;
const NAMES = Object.keys(COLUMNS) as readonly (keyof typeof COLUMNS)[];

type Row = Readonly<Record<keyof typeof COLUMNS, unknown>>;

const rowOf = (m: NewMessage, acceptedBy: Uuid): Row => ({
  id: m.id,
  project_id: m.projectId,
  agent_id: m.agentId,
  runtime_broker_id: m.runtimeBrokerId,
  sender: m.sender,
  sender_id: m.senderId,
  outside_sender_id: m.outsideSenderId ?? null,
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
});

const columns = sql.raw(NAMES.join(", "));

/** Messages with their stamps as one value, whatever their number. */
const recordset = (given: Given<Accepted>) => sql`
  json_to_recordset(${given(({ messages, acceptedBy }) =>
    JSON.stringify(messages.map((m) => ({ ...rowOf(m, acceptedBy), stamp: m.stamp }))),
  )}::json) as given(${sql.raw(NAMES.map((name) => `${name} ${COLUMNS[name]}`).join(", "))}, stamp bigint)`;

/** One message, with the stamp that it was accepted on. */
interface One {
  readonly row: Row;
  readonly stamp: string | undefined;
}

/** The values of one message. Taken out of JSON, as several are, they would cost as much as all else of its statement. */
const valuesOf = (given: Given<One>) =>
  sql.join(NAMES.map((name) => sql`${given(({ row }) => row[name])}::${sql.raw(COLUMNS[name])}`));

/** The agent of one message, locked. "offset 0" keeps this a look-up by id, however many agents run. */
const agentOf = (given: Given<One>) =>
  withStamp(sql`(select * from agents where id = ${given(({ row }) => row.agent_id)} offset 0 for key share)`);
const stampOf = (given: Given<One>) => sql`${given((p) => p.stamp ?? null)}::bigint`;

const storingOne = statement<One, { readonly id: Uuid }>((given) => {
  const id = given(({ row }) => row.id);
  return sql`
    with there as materialized (
        select a.id from ${agentOf(given)} where ${isUnchanged(stampOf(given))}),
      stored as (
        insert into messages (${columns}, state) select ${valuesOf(given)}, 'pending' where exists (select from there)
        on conflict (id) do nothing)
    select ${id}::uuid as id where not exists (select from there)
       and not exists (select from messages stored_before where stored_before.id = ${id})`;
});

const storing = statement<Accepted, { readonly id: Uuid }>(
  (given) => sql`
    with m as materialized (select * from ${recordset(given)}),
      there as materialized (
        select m.id from (select * from m order by agent_id offset 0) as m cross join lateral (
          select a.id from ${withStamp(sql`agents`)} where a.id = m.agent_id and ${isUnchanged(sql`m.stamp`)} offset 0 for key share of a) as agent),
      stored as (
        insert into messages (${columns}, state) select ${columns}, 'pending' from m
         where m.id in (select id from there) on conflict (id) do nothing)
    select id from m where m.id not in (select id from there)
       and not exists (select from messages stored_before where stored_before.id = m.id)`,
);

/**
 * Stores messages that wait for their agents, in no order among each other. One statement and one commit for all: under
 * load they cost a third of what each costs alone. Repeated, it changes nothing. Returns the ids of those that were not stored
 * because their agent is gone, or not what it was when they were accepted; one that was stored before is none of them.
 */
export const insertPendingMessages = async (db: Db, p: Accepted): Promise<Uuid[]> => {
  const [first, ...more] = p.messages;
  const { rows } =
    first && more.length === 0
      ? await storingOne(db, { row: rowOf(first, p.acceptedBy), stamp: first.stamp })
      : await storing(db, p);
  return rows.map((r) => r.id);
};

const storingForPerson = statement<Accepted, unknown>(
  (given) => sql`
    with m as materialized (select * from ${recordset(given)}),
      home as materialized (select p.id from m join projects p on p.id = m.project_id for key share of p),
      there as materialized (
        -- Asked first: the project's row is locked before the agent's.
        select from m where exists (select from home)
           and (m.agent_id is null or m.agent_id = (select a.id from agents a where a.id = m.agent_id for key share))),
      stored as (
        insert into messages (${columns}) select ${columns} from m where exists (select from there)
        on conflict (id) do nothing)
    select from there`,
);

/**
 * Stores a message to a person: it is delivered by being read. Repeated, it changes nothing. False when the project, or
 * the agent that writes, is gone.
 */
export const insertInboxMessage = async (
  db: Db,
  p: { readonly message: NewMessage; readonly acceptedBy: Uuid },
): Promise<boolean> =>
  (await storingForPerson(db, { messages: [p.message], acceptedBy: p.acceptedBy })).rows.length > 0;

/**
 * Whether no message waits for the agent `a`. In order, so that no index of all serves. Whether one is in flight is not
 * asked: the insert would meet it in the index of those, after the ones that are settled have left it.
 */
const nothingPending = sql<boolean>`(select true from messages o where o.agent_id = a.id and o.state = 'pending'
  order by o.seq limit 1) is null`;

/** What an insert of a claimed message did. */
export interface ClaimedInsert {
  readonly stored: boolean;
  /** Those of the acknowledged messages that count as delivered now. */
  readonly settled: readonly Uuid[];
}

/** What stands beside a message that is stored already claimed. */
interface ClaimedBeside {
  readonly claim: Claim;
  readonly acknowledged: readonly EndedDelivery[];
}

/** `settling`: whether there are acknowledged messages to be marked delivered first. */
const claiming = (settling: boolean) =>
  statement<ClaimedBeside & One, ClaimedInsert>((given) => {
    const [instanceId, sessionId] = [given((p) => p.claim.instanceId), given((p) => p.claim.sessionId)];
    const settled = sql`
      settled as (
        update messages m set ${delivered(instanceId)} from ${ended(given, (p) => p.acknowledged)} e
         -- Asked first: the runtime broker's row is locked before any message's.
         where exists (select from fence) and m.id = e.id and ${isState("delivering")} and m.claimed_by = ${instanceId}
           and m.claim_session = e.session
        returning m.id),`;
    // Counted first: what is settled must be out of the way of the one that takes its place.
    const afterSettling = sql`(select count(*) from settled) >= 0 and`;
    // "offset 0" keeps this a look-up by id, however many sockets there are here.
    return sql`
    with fence as materialized (
        select rb.id from (select * from runtime_brokers where id = ${given(({ row }) => row.runtime_broker_id)}
            offset 0 for share) rb
         where rb.connected_hub_id = ${instanceId} and rb.connected_session_id = ${sessionId}),
      ${settling ? settled : sql``}
      there as materialized (
        select a.id from ${agentOf(given)}
         where ${isUnchanged(stampOf(given))} and ${listens} and ${undisturbed} and ${nothingPending}),
      stored as (
        insert into messages (${columns}, state, claimed_by, claim_session, claimed_at, attempts)
        select ${valuesOf(given)}, 'delivering', ${instanceId}, ${sessionId}, now(), 1
         where ${settling ? afterSettling : sql``} exists (select from fence) and exists (select from there)
        on conflict (agent_id) where state = 'delivering' do nothing
        returning id)
    select exists (select from stored) as stored,
      ${settling ? sql`array(select id from settled)` : sql`array[]::uuid[]`} as settled`;
  });

const storingClaimed = claiming(false);
const settlingAndStoring = claiming(true);

/**
 * Stores a message already claimed for the socket that this replica holds, if nothing of its agent is undelivered and
 * the agent listens. If not, it goes the common way, as pending. Marks the agent's `acknowledged` messages delivered
 * first, which would be in its way; one that another statement is settling is waited for.
 */
export const insertClaimedMessage = async (
  db: Db,
  p: ClaimedBeside & { readonly message: NewMessage; readonly acceptedBy: Uuid },
): Promise<ClaimedInsert> => {
  const { claim, acknowledged, message, acceptedBy } = p;
  const one = { row: rowOf(message, acceptedBy), stamp: message.stamp };
  // A message that comes alone need not pay for looking at none.
  const insert = acknowledged.length > 0 ? settlingAndStoring : storingClaimed;
  const { rows } = await insert(db, { ...one, claim, acknowledged });
  return rows[0] ?? { stored: false, settled: [] };
};
