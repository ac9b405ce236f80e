-- compatible: yes
-- New tokens for agents: one after the other, or for all that run. And who may come in, as the change feed tells admins.

alter table broker_dispatch drop constraint broker_dispatch_op_check;
alter table broker_dispatch add constraint broker_dispatch_op_check check (op in
  ('create', 'start', 'stop', 'restart', 'suspend', 'resume', 'delete', 'check_prompt', 'finalize_env', 'reset_auth'));

-- The highest version that a token of the agent was issued with, where one was issued before it counted alone: the agent's
-- row follows when its runtime broker has confirmed it. Only agents that were reset have a row.
create table agent_token_versions (
  agent_id uuid primary key references agents (id) on delete cascade,
  issued int not null
);

-- New tokens for everybody: the work, one row per agent, and the report.
create table auth_resets (
  id uuid primary key,
  created_by uuid,
  created timestamptz(3) not null default now(),
  finished_at timestamptz(3)
);
create unique index auth_resets_running on auth_resets ((true)) where finished_at is null;
create index auth_resets_created on auth_resets (created desc, id desc);

create trigger auth_resets_audited after insert on auth_resets for each row
  execute function audit_change('agents_auth_reset_all', 'hub', 'id', '', '');

-- No foreign key to agents: the report outlives them. `dispatch_id`: the operation, the same whoever goes on with it.
create table auth_reset_agents (
  reset_id uuid not null references auth_resets (id) on delete cascade,
  agent_id uuid not null,
  name text not null,
  dispatch_id uuid not null,
  state text not null default 'pending' check (state in ('pending', 'done', 'failed')),
  error text,
  primary key (reset_id, agent_id)
);
create index auth_reset_agents_pending on auth_reset_agents (reset_id, agent_id) where state = 'pending';

-- One change however many addresses a statement adds: an import is one piece of news. Never an address.
create function log_allow_list_change() returns trigger language plpgsql as $$
begin
  insert into change_log (entity, entity_id, op, payload)
  select 'allow_list', min(c.id::text)::uuid, left(tg_op, 1), jsonb_build_object('many', count(*) > 1)
    from changed_rows c having count(*) > 0;
  return null;
end $$;
create trigger allow_list_inserted after insert on allow_list referencing new table as changed_rows
  for each statement execute function log_allow_list_change();
create trigger allow_list_deleted after delete on allow_list referencing old table as changed_rows
  for each statement execute function log_allow_list_change();

create trigger invites_inserted after insert on invites for each row execute function log_change('invite', 'code_prefix');
create trigger invites_deleted after delete on invites for each row execute function log_change('invite', 'code_prefix');
create trigger invites_updated after update on invites for each row
  when (old.revoked is distinct from new.revoked or old.use_count is distinct from new.use_count)
  execute function log_change('invite', 'code_prefix', 'revoked');
