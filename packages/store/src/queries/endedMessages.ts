import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

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

/** Has a piece of the agent's ended messages stay without it. Returns how many. */
const leaveSome = async (db: Db, agentId: Uuid): Promise<number> => {
  const of = (which: ReturnType<typeof sql>) =>
    piece(sql`select id from messages where agent_id = ${agentId} and ${which}`);
  const { numAffectedRows } = await sql`
    update messages set agent_id = null where id = any(${of(ENDED)} || ${of(sql`state is null`)})`.execute(db);
  return Number(numAffectedRows ?? 0n);
};

/** Has the agent's ended messages stay without it. What is still on its way is left to whoever deletes the agent's row. */
export const leaveEndedMessages = async (db: Db, agentId: Uuid, signal?: AbortSignal): Promise<void> => {
  let left = 1;
  while (left > 0 && !signal?.aborted) left = await leaveSome(db, agentId);
};

/** Deletes a piece of the project's ended messages. Returns how many. */
const deleteSome = async (db: Db, projectId: Uuid): Promise<number> => {
  const ofAgents = (which: ReturnType<typeof sql>) =>
    piece(sql`
      select m.id from messages m where m.id in (
        select own.id from agents a cross join lateral (
            select id from messages where agent_id = a.id and ${which} limit ${AT_ONCE}) as own
         where a.project_id = ${projectId} limit ${AT_ONCE})`);
  const ofNobody = piece(sql`select id from messages where project_id = ${projectId} and agent_id is null`);
  const { numAffectedRows } = await sql`
    delete from messages where id = any(${ofAgents(ENDED)} || ${ofAgents(sql`state is null`)} || ${ofNobody})`.execute(
    db,
  );
  return Number(numAffectedRows ?? 0n);
};

/** Deletes the project's ended messages. What is still on its way is left to whoever deletes the project's row. */
export const deleteEndedMessages = async (db: Db, projectId: Uuid): Promise<void> => {
  let left = 1;
  while (left > 0) left = await deleteSome(db, projectId);
};
