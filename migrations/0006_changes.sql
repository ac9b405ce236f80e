-- compatible: yes
-- The change feed (spec/07 part B): one row for every visible change, written in the transaction that makes it.

create table change_log (
  id bigint generated always as identity (cache 1) primary key,
  project_id uuid,
  agent_id uuid,
  owner_user_id uuid,
  entity text not null,
  entity_id uuid not null,
  op text not null check (op in ('I', 'U', 'D')),
  changed text[] not null default '{}',
  payload jsonb not null default '{}',
  at timestamptz(3) not null default clock_timestamp(),
  tx xid8 not null default pg_current_xact_id()
);
create index change_log_tx on change_log (tx, id);
create index change_log_age on change_log (at);

-- One row. `fingerprint` names the cluster's history; when it changes, every position handed out before is void.
create table feed_meta (
  one boolean primary key default true check (one),
  epoch uuid not null default gen_random_uuid(),
  pruned_tx xid8 not null default '0',
  fingerprint text not null default ''
);
insert into feed_meta default values;

-- Arguments: the entity's name, then the columns whose values go along. Ids are taken where the table has them.
create function log_change() returns trigger language plpgsql as $$
declare
  after jsonb := case when tg_op = 'DELETE' then '{}'::jsonb else to_jsonb(new) end;
  before jsonb := case when tg_op = 'INSERT' then '{}'::jsonb else to_jsonb(old) end;
  this jsonb := case when tg_op = 'DELETE' then before else after end;
  names text[] := '{}';
  payload jsonb := '{}';
begin
  if tg_op = 'UPDATE' then
    select coalesce(array_agg(a.key), '{}') into names
      from jsonb_each(after) a where a.value is distinct from before -> a.key;
  end if;
  select coalesce(jsonb_object_agg(c.name, this -> c.name), '{}') into payload
    from unnest(tg_argv[1:]) as c(name) where this -> c.name <> 'null'::jsonb;
  if octet_length(payload::text) > 2048 then
    -- Long texts are left out, and read when the event is made.
    select coalesce(jsonb_object_agg(p.key, p.value), '{}') || '{"cut": true}' into payload
      from jsonb_each(payload) p where octet_length(p.value::text) <= 100;
  end if;
  insert into change_log (project_id, agent_id, owner_user_id, entity, entity_id, op, changed, payload)
  values (
    (case when tg_argv[0] = 'project' then this ->> 'id' else this ->> 'project_id' end)::uuid,
    (case when tg_argv[0] = 'agent' then this ->> 'id' else this ->> 'agent_id' end)::uuid,
    (this ->> 'owner_id')::uuid,
    tg_argv[0], (this ->> 'id')::uuid, left(tg_op, 1), names, payload);
  return null;
end $$;

-- Messages have their own: turning a text of 64 KB to JSON and back would cost more than the insert itself.
create function log_message_change() returns trigger language plpgsql as $$
declare
  this messages := case when tg_op = 'DELETE' then old else new end;
begin
  insert into change_log (project_id, agent_id, owner_user_id, entity, entity_id, op, changed, payload)
  values (this.project_id, this.agent_id, case when this.state is null then this.recipient_id end,
    'message', this.id, left(tg_op, 1),
    case when tg_op = 'UPDATE' then array_remove(array[
      case when old.read is distinct from new.read then 'read' end,
      case when old.state is distinct from new.state then 'state' end], null) else '{}' end,
    jsonb_strip_nulls(jsonb_build_object('state', this.state, 'type', this.type)));
  return null;
end $$;

-- What a container engine says, without how long ago: "Up 5 seconds" and "Up 2 minutes" are the same state.
create function container_state(status text) returns text immutable language sql return
  regexp_replace(status, ' *\m(about |less than )?(an?|\d+) (second|minute|hour|day|week|month|year)s?( ago)?', '', 'gi');

-- Guards are deny-lists: a column added later is visible until somebody calls it noise.
create trigger projects_inserted after insert on projects for each row
  execute function log_change('project', 'name', 'slug');
create trigger projects_deleted after delete on projects for each row
  execute function log_change('project', 'name', 'slug');
create trigger projects_updated after update on projects for each row
  when (to_jsonb(old) - '{updated}'::text[] is distinct from to_jsonb(new) - '{updated}'::text[])
  execute function log_change('project', 'name', 'slug');

create trigger runtime_brokers_inserted after insert on runtime_brokers for each row
  execute function log_change('runtime_broker', 'name', 'status');
create trigger runtime_brokers_deleted after delete on runtime_brokers for each row
  execute function log_change('runtime_broker', 'name', 'status');
create trigger runtime_brokers_updated after update on runtime_brokers for each row
  when (to_jsonb(old) - '{updated,connected_hub_id,connected_session_id,connected_at,disconnected_at}'::text[]
    is distinct from to_jsonb(new) - '{updated,connected_hub_id,connected_session_id,connected_at,disconnected_at}'::text[])
  execute function log_change('runtime_broker', 'name', 'status');

create trigger project_providers_inserted after insert on project_providers for each row
  execute function log_change('provider', 'runtime_broker_id');
create trigger project_providers_deleted after delete on project_providers for each row
  execute function log_change('provider', 'runtime_broker_id');
create trigger project_providers_updated after update on project_providers for each row
  when (to_jsonb(old) - '{linked_at}'::text[] is distinct from to_jsonb(new) - '{linked_at}'::text[])
  execute function log_change('provider', 'runtime_broker_id');

create trigger agents_inserted after insert on agents for each row
  execute function log_change('agent', 'name', 'slug', 'template', 'phase', 'activity', 'container_status', 'image',
    'runtime', 'runtime_broker_id', 'created_by', 'visibility', 'task_summary', 'created', 'deleted_at');
create trigger agents_deleted after delete on agents for each row
  execute function log_change('agent', 'name', 'slug', 'deleted_at');
create trigger agents_updated after update on agents for each row
  when (container_state(old.container_status) is distinct from container_state(new.container_status)
    or to_jsonb(old) - '{updated,last_seen,last_activity_event,state_version,launching,container_status}'::text[]
    is distinct from to_jsonb(new) - '{updated,last_seen,last_activity_event,state_version,launching,container_status}'::text[])
  execute function log_change('agent', 'phase', 'activity', 'tool_name', 'message', 'task_summary',
    'container_status', 'current_turns', 'current_model_calls', 'started_at', 'deleted_at', 'exit_code');

create trigger notification_subscriptions_inserted after insert on notification_subscriptions for each row
  execute function log_change('notification_subscription');
create trigger notification_subscriptions_deleted after delete on notification_subscriptions for each row
  execute function log_change('notification_subscription');
create trigger notification_subscriptions_updated after update on notification_subscriptions for each row
  when (to_jsonb(old) is distinct from to_jsonb(new))
  execute function log_change('notification_subscription');

create trigger messages_inserted after insert on messages for each row
  execute function log_message_change();
create trigger messages_deleted after delete on messages for each row
  execute function log_message_change();
-- The way of a message to its agent is told by the message itself; only its end in failure is an event.
create trigger messages_updated after update on messages for each row
  when (old.read is distinct from new.read or (new.state = 'failed' and old.state is distinct from 'failed'))
  execute function log_message_change();
