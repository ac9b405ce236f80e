import pg from "pg";

/** How much has happened in a hub before. */
export interface Past {
  /** Agents that have stopped; every tenth is deleted, and one in a hundred still runs where nobody answers. */
  readonly agents: number;
  /** Messages to agents, delivered; one in a hundred waits for a runtime broker that is away. */
  readonly messages: number;
  /** Changes that were told. */
  readonly changes: number;
  /** Finished lifecycle operations, kept answers and seen nonces: so many of each. */
  readonly others: number;
}

/** Whom the past is mostly about: one in ten of its rows. */
export interface PastOf {
  readonly agentId: string;
  readonly userId: string;
}

/**
 * Fills a database with what months leave behind, by a few large statements and without triggers: the past is not news.
 * An agent and a person of the present have their share in it, as both ends of conversations; the others' lies in the same
 * project, on the same runtime broker and beside them.
 */
export const writePast = async (databaseUrl: string, past: Past, of: PastOf): Promise<void> => {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query("set session_replication_role = replica");
    await client.query("set synchronous_commit = off");
    for (const [sql, values] of statements(past, of)) await client.query(sql, [...values]);
    await client.query("vacuum (analyze)");
  } finally {
    await client.end();
  }
};

const AWAY = 20;

const statements = (past: Past, of: PastOf): readonly (readonly [string, readonly unknown[]])[] => [
  [
    `insert into runtime_brokers (id, name, slug, disconnected_at)
     select gen_random_uuid(), 'away-' || n, 'away-' || n, now() - interval '1 day' from generate_series(1, $1::int) n`,
    [AWAY],
  ],
  [
    `insert into projects (id, name, slug, owner_id, created)
     select gen_random_uuid(), 'past ' || n, 'past-' || n, gen_random_uuid(), now() - interval '1 year'
       from generate_series(1, 50) n`,
    [],
  ],
  // A third in the project and on the runtime broker of the present, the rest elsewhere.
  [
    `with here as (select project_id, runtime_broker_id from agents where id = $1),
       projects_of as (select id, row_number() over (order by id) as place from projects where slug like 'past-%'),
       away as (select id, row_number() over (order by id) as place from runtime_brokers where name like 'away-%')
     insert into agents (id, project_id, slug, name, runtime_broker_id, phase, deleted_at, owner_id, created_by, ancestry,
         last_seen, last_activity_event, running_since, ready_at, created)
     select gen_random_uuid(), case when n % 3 = 0 then here.project_id else p.id end, 'past-' || n, 'past-' || n,
         case when n % 3 = 0 then here.runtime_broker_id else away.id end,
         case when n % 100 = 1 then 'running' else 'stopped' end,
         case when n % 10 = 0 then now() - interval '1 day' end, u.id, u.id, array[u.id],
         now(), now(), case when n % 100 = 1 then now() - interval '1 day' end, now() - interval '1 day',
         now() - n * interval '1 minute'
       from generate_series(1, $2::int) n
       cross join here
       join projects_of p on p.place = 1 + n % 50
       join away on away.place = 1 + n % $3::int
       cross join lateral (select case when n % 10 = 3 then $4::uuid else gen_random_uuid() end as id where n > 0) u`,
    [of.agentId, past.agents, AWAY, of.userId],
  ],
  // Of every ten messages one goes to the agent of the present, from the person or from others; another is to the person.
  [
    `with others as (select id, project_id, runtime_broker_id, row_number() over (order by id) as place from agents
         where slug like 'past-%'),
       here as (select id, project_id, runtime_broker_id from agents where id = $1)
     insert into messages (id, project_id, agent_id, runtime_broker_id, sender, sender_id, recipient, recipient_id, msg, state,
         attempts, read, created, dispatched_at)
     select gen_random_uuid(), t.project_id, t.id, t.runtime_broker_id, 'user:someone',
         case when n % 20 = 0 or n % 3 = 0 then $2::uuid else gen_random_uuid() end,
         case when n % 10 = 5 then 'user:person' else 'agent:past' end, case when n % 10 = 5 then $2::uuid else t.id end,
         'a line of text', case when n % 10 = 5 then null when n % 100 = 1 then 'pending' else 'delivered' end,
         1, n % 10 <> 5 or n % 20 = 5, now() - n * interval '1 second', now() - n * interval '1 second'
       from generate_series(1, $3::int) n
       cross join here
       join others o on o.place = 1 + n % (select greatest(count(*), 1) from others)
       cross join lateral (select case when n % 10 in (0, 5) then here.id else o.id end as id,
         case when n % 10 in (0, 5) then here.project_id else o.project_id end as project_id,
         case when n % 10 in (0, 5) then here.runtime_broker_id
           when n % 100 = 1 then (select min(id::text)::uuid from runtime_brokers where name like 'away-%')
           else o.runtime_broker_id end as runtime_broker_id) t`,
    [of.agentId, of.userId, past.messages],
  ],
  [
    `insert into change_log (project_id, agent_id, entity, entity_id, op, payload, at, tx)
     select a.project_id, a.id, 'message', gen_random_uuid(), 'I', '{"type": "instruction", "state": "pending"}',
         now() - ($2::int - n) * interval '10 milliseconds', greatest(3, c.now - 1 - ($2::int - n) / 50)::text::xid8
       from agents a, generate_series(1, $2::int) n, (select pg_current_xact_id()::text::bigint as now) c where a.id = $1`,
    [of.agentId, past.changes],
  ],
  [
    `insert into broker_dispatch (id, runtime_broker_id, agent_id, project_id, op, state, attempts, deadline_at, created_at,
         updated_at)
     select gen_random_uuid(), a.runtime_broker_id, a.id, a.project_id, 'stop',
         case when n % 7 = 0 then 'failed' else 'done' end, 1, now() - n * interval '1 second',
         now() - n * interval '1 second', now() - n * interval '1 second'
       from agents a, generate_series(1, $2::int) n where a.id = $1`,
    [of.agentId, past.others],
  ],
  [
    `insert into idempotency_keys (principal, key, method, path, body_hash, operation, created, expires_at)
     select 'user:' || $1, 'key-' || n, 'POST', '/', '', '{}', now(), now() + n * interval '1 second'
       from generate_series(1, $2::int) n`,
    [of.userId, past.others],
  ],
  [
    `insert into seen_nonces (runtime_broker_id, nonce, seen_at)
     select r.id, 'past-' || n, now() - n * interval '1 millisecond'
       from runtime_brokers r, generate_series(1, $2::int) n
      where r.id = (select runtime_broker_id from agents where id = $1)`,
    [of.agentId, past.others],
  ],
];
