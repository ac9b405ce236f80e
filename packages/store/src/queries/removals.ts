import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import {
  deleteEndedMessages,
  deleteMessagesOfNobody,
  failUndelivered,
  failWaitingMessages,
  undelivered,
} from "./endedMessages.ts";
import { after, type Condition, type Position } from "./keyset.ts";
import { lockProject } from "./projects.ts";
import { uuidArray } from "./uuidArray.ts";

/**
 * Agents, projects and runtime brokers as they go. However much hangs on them: in pieces that each take a moment, so that
 * nobody waits long for a lock and no reader of changes gets a hundred thousand at once. And in the order in which everybody
 * locks rows: projects, runtime brokers, operations, messages, agents, those of a kind by their ids. Left to foreign keys,
 * whoever writes down a heartbeat, a link or the end of an operation would wait for them while they wait for it.
 */

const AT_ONCE = 200;

const any = (ids: readonly Uuid[]) => sql`any(${uuidArray(ids)}::uuid[])`;

const idsOf = async (db: Db, rows: RawBuilder<{ id: Uuid }>): Promise<Uuid[]> =>
  (await rows.execute(db)).rows.map((r) => r.id);

const lockUnfinished = (tx: Db, which: RawBuilder<unknown>) =>
  sql`select from broker_dispatch where ${which} and state in ('pending', 'in_progress') order by id for update`.execute(
    tx,
  );

/**
 * Removes the records of agents and, by cascade, their kept values and subscriptions; what is on its way to them fails.
 * What they were told before is to be gone already (`leaveEndedMessages`).
 */
export const deleteAgentRows = (db: Db, agentIds: readonly Uuid[]): Promise<void> =>
  audited(db, (own) =>
    transaction(own, async (tx) => {
      await lockUnfinished(tx, sql`agent_id = ${any(agentIds)}`);
      // Only locked before the agents are: who stores a message has its agent locked, and waits where one changes its state.
      await sql`select from messages where id in (${undelivered(agentIds)}) order by id for update`.execute(tx);
      await sql`select from agents where id = ${any(agentIds)} order by id for update`.execute(tx);
      await failUndelivered(tx, agentIds);
      await sql`delete from agents where id = ${any(agentIds)}`.execute(tx);
    }),
  );

/**
 * Agents `of` something, a piece after the other. By their places: from the beginning, each piece would walk past all that
 * went before it and is not cleaned up yet.
 */
async function* piecesOf(db: Db, of: Condition): AsyncGenerator<readonly Uuid[]> {
  let last: Position | undefined;
  do {
    const { rows } = await sql<Position>`
      select a.id, a.created from agents a where ${of} and ${after("a", last)}
       order by a.created desc, a.id desc limit ${AT_ONCE}`.execute(db);
    if (rows.length > 0) yield rows.map((r) => r.id);
    last = rows.length === AT_ONCE ? rows.at(-1) : undefined;
  } while (last);
}

/** Removes the records of a project's agents and its messages. Of what comes meanwhile some may be left. */
export const emptyProject = async (db: Db, projectId: Uuid): Promise<void> => {
  for await (const agents of piecesOf(db, sql`a.project_id = ${projectId}`)) {
    await failWaitingMessages(db, agents);
    await deleteEndedMessages(db, agents);
    await deleteAgentRows(db, agents);
  }
  await deleteMessagesOfNobody(db, projectId);
};

/** Deletes the project and everything that hangs on it, which should be little by now. False when there was none. */
export const deleteProject = (db: Db, id: Uuid): Promise<boolean> =>
  audited(db, (own) =>
    transaction(own, async (tx) => {
      if (!(await lockProject(tx, id))) return false;
      const left = await idsOf(tx, sql`select id from agents where project_id = ${id}`);
      if (left.length > 0) await deleteAgentRows(tx, left);
      await tx.deleteFrom("projects").where("id", "=", id).execute();
      return true;
    }),
  );

/** Projects that know the runtime broker, as their provider or default. */
const knowing = (id: Uuid, limit: RawBuilder<unknown>) => sql`
  array(select project_id from project_providers where runtime_broker_id = ${id}
    union select id from projects where default_runtime_broker_id = ${id} ${limit})`;

const lockProjects = (tx: Db, ids: RawBuilder<unknown>): Promise<Uuid[]> =>
  idsOf(tx, sql`select id from projects where id = any(${ids}) order by id for no key update`);

/** Has agents of the runtime broker run nowhere. */
const leaveAgents = (db: Db, id: Uuid, agentIds: readonly Uuid[]) =>
  transaction(db, (tx) =>
    sql`
    with piece as materialized (
      select id from agents where id = ${any(agentIds)} and runtime_broker_id = ${id} order by id for no key update)
    update agents a set runtime_broker_id = null, updated = now() from piece where a.id = piece.id`.execute(tx),
  );

/** Has a piece of the projects forget it. Returns how many. */
const leaveSomeProjects = (db: Db, id: Uuid): Promise<number> =>
  audited(db, (own) =>
    transaction(own, async (tx) => {
      const projects = await lockProjects(tx, knowing(id, sql`limit ${AT_ONCE}`));
      await sql`update projects set default_runtime_broker_id = null, updated = now()
        where id = ${any(projects)} and default_runtime_broker_id = ${id}`.execute(tx);
      await sql`delete from project_providers where runtime_broker_id = ${id} and project_id = ${any(projects)}`.execute(
        tx,
      );
      return projects.length;
    }),
  );

/** Providers, secrets and intents go with it; agents and projects stay and forget it. False when there was none. */
export const deleteRuntimeBroker = async (db: Db, id: Uuid): Promise<boolean> => {
  for await (const agents of piecesOf(db, sql`a.runtime_broker_id = ${id}`)) await leaveAgents(db, id, agents);
  while ((await leaveSomeProjects(db, id)) === AT_ONCE);
  return audited(db, (own) =>
    transaction(own, async (tx) => {
      await lockProjects(tx, knowing(id, sql``));
      await sql`select from runtime_brokers where id = ${id} for update`.execute(tx);
      await lockUnfinished(tx, sql`runtime_broker_id = ${id}`);
      await sql`select from agents where runtime_broker_id = ${id} order by id for update`.execute(tx);
      const done = await tx.deleteFrom("runtime_brokers").where("id", "=", id).executeTakeFirst();
      return done.numDeletedRows > 0n;
    }),
  );
};
