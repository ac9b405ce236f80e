import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { uuidArray } from "./uuidArray.ts";

/**
 * Messages that have come to their end, of agents and projects that are about to go: however many there are, in pieces that
 * each take a moment. With the row of an agent or project, in one statement, a million of them would take longer than any
 * statement may, this time and every other.
 */

/** Messages of one kind that a statement takes. A piece has two or three kinds. */
const AT_ONCE = 2_500;

const ENDED = sql`length(state) > 0 and state in ('delivered', 'failed')`;

/** The ids of a piece. Who does the same at once takes another. */
const piece = (rows: ReturnType<typeof sql>) => sql`array(${rows} limit ${AT_ONCE} for update skip locked)`;

const WAITS_NO_MORE = "the agent was deleted";

const ofAgents = (agentIds: readonly Uuid[]) => sql`agent_id = any(${uuidArray(agentIds)}::uuid[])`;

/** Runs `work` until it finds nothing more to do. */
const untilNone = async (work: () => Promise<{ readonly numAffectedRows?: bigint }>, signal?: AbortSignal) => {
  while (!signal?.aborted && ((await work()).numAffectedRows ?? 0n) > 0n);
};

/** Fails what waits for agents that are gone at their runtime brokers, or never were there, and whose records go next. */
export const failWaitingMessages = (db: Db, agentIds: readonly Uuid[]): Promise<void> => {
  const waiting = piece(sql`select id from messages where ${ofAgents(agentIds)} and state = 'pending'`);
  return untilNone(() =>
    sql`update messages set state = 'failed', error = ${WAITS_NO_MORE} where id = any(${waiting})`.execute(db),
  );
};

/** Fails what is on its way to these agents, which are locked: little by now. */
export const failUndelivered = async (tx: Db, agentIds: readonly Uuid[]): Promise<void> => {
  await sql`update messages set state = 'failed', error = ${WAITS_NO_MORE}
    where id in (${undelivered(agentIds)})`.execute(tx);
};

/** The ids of what is on its way to these agents. */
export const undelivered = (agentIds: readonly Uuid[]) => sql`
  select id from messages where ${ofAgents(agentIds)} and state = 'pending'
  union all select id from messages where ${ofAgents(agentIds)} and state = 'delivering'`;

/** The ids of a piece of what has come to its end of these agents. */
const endedOf = (agentIds: readonly Uuid[]) => {
  const of = (which: ReturnType<typeof sql>) =>
    piece(sql`select id from messages where ${ofAgents(agentIds)} and ${which}`);
  return sql`any(${of(ENDED)} || ${of(sql`state is null`)})`;
};

/** Has the agent's ended messages stay without it. What is still on its way is left to whoever deletes the agent's row. */
export const leaveEndedMessages = (db: Db, agentId: Uuid, signal?: AbortSignal): Promise<void> =>
  untilNone(() => sql`update messages set agent_id = null where id = ${endedOf([agentId])}`.execute(db), signal);

/** Deletes the ended messages of these agents. What is still on its way is left to whoever deletes the agents' rows. */
export const deleteEndedMessages = (db: Db, agentIds: readonly Uuid[]): Promise<void> =>
  untilNone(() => sql`delete from messages where id = ${endedOf(agentIds)}`.execute(db));

/** Deletes the messages of a project that are of none of its agents any more. */
export const deleteMessagesOfNobody = (db: Db, projectId: Uuid): Promise<void> => {
  const some = piece(sql`select id from messages where project_id = ${projectId} and agent_id is null`);
  return untilNone(() => sql`delete from messages where id = any(${some})`.execute(db));
};
