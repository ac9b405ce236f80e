import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";

/**
 * The part of a statement that has agents say what became of an operation on them that nobody answered: `ended` is a table
 * `(agent_id, op, error)`. A launch that ended so does not look as if the agent were still coming up; an agent that was to
 * be halted is, as far as anybody knows, what it was.
 */
export const tellAgents = (ended: RawBuilder<unknown>) => sql`
    told_agents as (
      update agents a set launching = a.launching and not e.launch, phase = case when e.launch then 'error' else a.phase end,
          message = case when e.launch then e.error else e.op || ' failed: ' || e.error end,
          updated = now(), state_version = a.state_version + 1
        from (
          select b.id, ended.op, ended.error, b.launching and b.phase in ('created', 'provisioning', 'starting') as launch
            from ${ended} as ended join agents b on b.id = ended.agent_id order by b.id for no key update of b) e
       where a.id = e.id and (e.launch or (e.op in ('stop', 'suspend') and a.phase = 'running' and a.deleted_at is null)))`;

/** Has the agents of these operations, which have ended, say what became of them. */
export const tellAgentsOf = async (db: Db, dispatchIds: readonly Uuid[]): Promise<void> => {
  await sql`
    with ended as materialized (
      select agent_id, op, error from broker_dispatch where id = any(${dispatchIds}::uuid[])),
    ${tellAgents(sql`ended`)}
    select from ended`.execute(db);
};
