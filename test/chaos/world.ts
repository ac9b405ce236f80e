import { join } from "node:path";
import { migrate } from "@rootstock/store";
import { databaseAt, type OwnedPostgres, type TestDatabase, testLog } from "@rootstock/testkit";
import type { Code } from "./codeCopy.ts";
import type { Move, Rest, Transition } from "./history.ts";

/**
 * Writes down every step of a claimable row, whose the runtime broker was and who made it, in the transaction that makes
 * it; every change of that; and which instances stood behind a replica's name.
 */
const WITNESS = `
  create table chaos_instances (instance_id uuid primary key, name text not null);
  create table chaos_transitions (
    n bigint generated always as identity primary key, tbl text, id uuid, old_state text, new_state text,
    old_hub uuid, old_session uuid, new_hub uuid, new_session uuid, owner_hub uuid, owner_session uuid, writer text, subject text);
  create table chaos_moves (n bigint generated always as identity primary key, id uuid, old_hub uuid, old_session uuid,
    new_session uuid, writer text);
  create function chaos_instance() returns trigger language plpgsql as $$
  begin
    insert into chaos_instances values (new.instance_id, new.name) on conflict do nothing;
    return null;
  end $$;
  create trigger chaos_instance after insert or update on hub_replicas for each row execute function chaos_instance();
  create function chaos_transition() returns trigger language plpgsql as $$
  declare
    before jsonb := case when tg_op = 'UPDATE' then to_jsonb(old) else '{"state": "pending"}' end;
    rb runtime_brokers;
  begin
    select * into rb from runtime_brokers where id = new.runtime_broker_id;
    insert into chaos_transitions (tbl, id, old_state, new_state, old_hub, old_session, new_hub, new_session,
        owner_hub, owner_session, writer, subject)
    values (tg_table_name, new.id, before ->> 'state', new.state, (before ->> 'claimed_by')::uuid,
      (before ->> 'claim_session')::uuid, new.claimed_by, new.claim_session, rb.connected_hub_id, rb.connected_session_id,
      current_setting('application_name'), coalesce(to_jsonb(new) ->> 'msg', to_jsonb(new) ->> 'op'));
    return null;
  end $$;
  create function chaos_move() returns trigger language plpgsql as $$
  begin
    insert into chaos_moves (id, old_hub, old_session, new_session, writer) values (new.id, old.connected_hub_id,
      old.connected_session_id, new.connected_session_id, current_setting('application_name'));
    return null;
  end $$;
  create trigger chaos_move after update on runtime_brokers for each row
    when (old.connected_session_id is distinct from new.connected_session_id) execute function chaos_move();
  create trigger chaos_claimed after insert on messages for each row when (new.state = 'delivering')
    execute function chaos_transition();
  create trigger chaos_claimed after insert on broker_dispatch for each row when (new.state in ('in_progress', 'done'))
    execute function chaos_transition();
  create trigger chaos_step after update on messages for each row when (old.state is distinct from new.state)
    execute function chaos_transition();
  create trigger chaos_step after update on broker_dispatch for each row when (old.state is distinct from new.state)
    execute function chaos_transition();`;

/** A database of its own, with this code's schema, for one round, and the harness's witness in it. */
export const createWorld = async (postgres: OwnedPostgres, name: string, code: Code): Promise<TestDatabase> => {
  await databaseAt(postgres.url).query(`create database ${name}`);
  const url = new URL(postgres.url);
  url.pathname = `/${name}`;
  await migrate({ url: url.toString(), log: testLog(), dir: join(code.root, "migrations") });
  const database = databaseAt(url.toString());
  await database.query(WITNESS);
  return {
    ...database,
    drop: async () => void (await databaseAt(postgres.url).query(`drop database ${name} with (force)`)),
  };
};

/** The agents that are there all the time; those of other names come and go. */
const LASTING = "(select id from agents where slug like 'a%')";

/** How many rows have not come to an end. What a deleted agent was sent never does. */
export const unsettled = async (database: TestDatabase): Promise<number> => {
  const [row] = await database.query<{ n: number }>(
    `select (select count(*) from messages where state in ('pending', 'delivering') and agent_id in ${LASTING})::int
          + (select count(*) from broker_dispatch where state in ('pending', 'in_progress'))::int as n`,
  );
  return row?.n ?? 0;
};

/** The session that the database names for each runtime broker. */
export const namedSessions = async (database: TestDatabase): Promise<ReadonlyMap<string, string | null>> => {
  const rows = await database.query<{ id: string; session: string | null }>(
    "select id, connected_session_id as session from runtime_brokers",
  );
  return new Map(rows.map((r) => [r.id, r.session]));
};

/** The agents of which there is a record that is not deleted, by name. */
export const knownAgents = async (database: TestDatabase): Promise<ReadonlySet<string>> => {
  const rows = await database.query<{ slug: string }>("select slug from agents where deleted_at is null");
  return new Set(rows.map((r) => r.slug));
};

/** The instances that the writer's name stands for. */
const WRITERS = "(select array_agg(i.instance_id::text) from chaos_instances i where 'rootstock ' || i.name = writer)";

/** What the database says that an agent does. */
export type AgentPhase = Readonly<Record<"agent" | "slug" | "phase", string>>;

/** What the database holds in the end. `textOf` names a message as the history does. */
export const readRest = async (
  database: TestDatabase,
  textOf: (msg: string, agent: string) => string,
): Promise<Omit<Rest, "sockets" | "held" | "subscribers" | "phases"> & { readonly phases: readonly AgentPhase[] }> => {
  const messages = await database.query<{
    id: string;
    agent: string;
    msg: string;
    state: string;
    error: string | null;
  }>(`select id, agent_id as agent, msg, state, error from messages where agent_id in ${LASTING} order by seq`);
  const dispatches = await database.query<{ id: string; agent: string; op: string; state: string; attempts: number }>(
    "select id, agent_id as agent, op, state, attempts from broker_dispatch order by seq",
  );
  const transitions = await database.query<Omit<Transition, "writers"> & { writers: string[] | null }>(
    `select tbl as "table", id, old_state as "from", new_state as "to", old_hub as "claimedBy", old_session as "claimSession",
        new_hub as "claimsNow", new_session as "claimSessionNow", owner_hub as "ownerHub", owner_session as "ownerSession", subject,
        ${WRITERS} as writers
       from chaos_transitions order by n`,
  );
  const moves = await database.query<Omit<Move, "writers"> & { writers: string[] | null }>(
    `select id as "runtimeBroker", old_hub as "fromHub", old_session as "from", new_session as "to", ${WRITERS} as writers
       from chaos_moves order by n`,
  );
  const agentChanges = await database.query<{ agent: string; value: string }>(
    `select entity_id as agent, concat(payload ->> 'phase', '/', payload ->> 'activity') as value from change_log
      where entity = 'agent' and op = 'U' and payload ->> 'deleted_at' is null and entity_id in ${LASTING} order by id`,
  );
  const phases = await database.query<AgentPhase>(`select id as agent, slug, phase from agents where id in ${LASTING}`);
  return {
    phases,
    messages: messages.map((m) => ({ ...m, text: textOf(m.msg, m.agent) })),
    dispatches,
    transitions: transitions.map((t) => ({ ...t, writers: t.writers ?? [] })),
    moves: moves.map((m) => ({ ...m, writers: m.writers ?? [] })),
    agentChanges,
  };
};
