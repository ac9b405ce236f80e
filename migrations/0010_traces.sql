-- compatible: yes
-- Where a message or an operation has been. Its usual way is told by its own row, at no cost: who accepted it, who claimed
-- it when, how it ended. What is unusual leaves a hop.

alter table broker_dispatch
  -- The replica that took the call.
  add column accepted_by uuid,
  -- When it was claimed last.
  add column claimed_at timestamptz(3),
  -- Why it waited, or waits, in words.
  add column hold_reason text;
-- The operations of one agent, newest first.
create index broker_dispatch_agent on broker_dispatch (agent_id, seq) where agent_id is not null;

-- An attempt that came to nothing, or the failure of a message. The same again over the same socket is counted: a runtime
-- broker that refuses a message for days leaves one row of it.
create table trace_hops (
  id bigint generated always as identity (cache 1) primary key,
  -- A message or an operation. No foreign key: hops go by age, and must not cost whoever deletes what they are of.
  subject_id uuid not null,
  event text not null check (event in ('given_back', 'failed')),
  replica_id uuid,
  runtime_broker_id uuid,
  session_id uuid,
  reason text not null,
  -- Why it had waited before this attempt.
  waited_for text,
  attempt int,
  claimed_at timestamptz(3),
  at timestamptz(3) not null default clock_timestamp(),
  times int not null default 1,
  last_at timestamptz(3) not null default clock_timestamp(),
  unique nulls not distinct (subject_id, session_id, event, reason)
);
create index trace_hops_age on trace_hops (last_at);

create function note_hop(event text, subject uuid, replica uuid, runtime_broker uuid, session uuid, why text,
  waited text, attempt int, claimed timestamptz) returns void language sql as $$
  insert into trace_hops (subject_id, event, replica_id, runtime_broker_id, session_id, reason, waited_for, attempt,
      claimed_at)
  values (subject, event, replica, runtime_broker, session, left(coalesce(why, 'unknown'), 500), left(waited, 500),
    attempt, claimed)
  on conflict (subject_id, session_id, event, reason) do update set times = trace_hops.times + 1,
    last_at = excluded.last_at
$$;

-- By trigger: whoever gives something back, takes it back or fails it, the replicas of the release before this one
-- included, leaves the hop in the same transaction. Old and new hold reason: why it waited before, why it waits now.
create function note_message_hop() returns trigger language plpgsql as $$
begin
  perform note_hop(case when new.state = 'failed' then 'failed' else 'given_back' end, new.id, old.claimed_by,
    case when old.state = 'delivering' then old.runtime_broker_id end, old.claim_session,
    case when new.state = 'failed' then new.error else new.hold_reason end, old.hold_reason,
    case when old.state = 'delivering' then old.attempts end,
    case when old.state = 'delivering' then old.claimed_at end);
  return null;
end $$;
create trigger messages_hop after update on messages for each row
  when (old.state is distinct from new.state
    and (new.state = 'failed' or (old.state = 'delivering' and new.state = 'pending')))
  execute function note_message_hop();

create function note_dispatch_hop() returns trigger language plpgsql as $$
begin
  perform note_hop('given_back', new.id, old.claimed_by, old.runtime_broker_id, old.claim_session,
    coalesce(new.hold_reason, new.error), old.hold_reason, old.attempts, old.claimed_at);
  return null;
end $$;
-- Ends that keep the claim are told by the row itself.
create trigger broker_dispatch_hop after update on broker_dispatch for each row
  when (old.state = 'in_progress' and new.state <> 'in_progress' and new.claimed_by is null)
  execute function note_dispatch_hop();

-- Names of replicas, those that are gone included: hub_replicas forgets them, and a trace must not.
create table replica_names (
  instance_id uuid primary key,
  name text not null,
  version text not null,
  since timestamptz(3) not null default now(),
  -- When its row went; null while it lives.
  gone_at timestamptz(3)
);
create index replica_names_gone on replica_names (gone_at) where gone_at is not null;
insert into replica_names (instance_id, name, version, since)
  select instance_id, name, version, started_at from hub_replicas;

create function note_replica() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    update replica_names set gone_at = now() where instance_id = old.instance_id;
  else
    insert into replica_names (instance_id, name, version) values (new.instance_id, new.name, new.version)
    on conflict (instance_id) do update set name = excluded.name, version = excluded.version, gone_at = null;
  end if;
  return null;
end $$;
create trigger hub_replicas_noted after insert or delete on hub_replicas for each row execute function note_replica();
