-- compatible: yes
-- Who did what (spec/03 section 7). Rows are written by triggers, in the transaction of what they tell of, so that no code
-- path can forget one; what changes no row (a refused sign-in) is recorded by itself. Nothing here points at other tables:
-- what happened outlives whom it happened to.

create table audit_log (
  id bigint generated always as identity primary key,
  at timestamptz(3) not null default clock_timestamp(),
  action text not null check (action <> ''),
  success boolean not null default true,
  reason text,
  actor_kind text not null,
  actor_id uuid,
  actor_email text,
  credential text,
  credential_id text,
  address text,
  user_agent text,
  request_id text,
  target_type text not null,
  target_id text,
  target_name text,
  project_id uuid,
  details jsonb not null default '{}'
);
create index audit_log_at on audit_log (at desc, id desc);
create index audit_log_actor on audit_log (actor_id, at desc, id desc) where actor_id is not null;
create index audit_log_action on audit_log (action, at desc, id desc);
create index audit_log_target on audit_log (target_id, at desc, id desc) where target_id is not null;
create index audit_log_project on audit_log (project_id, at desc, id desc) where project_id is not null;
create index audit_log_failures on audit_log (at desc, id desc) where not success;

-- Only the retention takes rows away, and only what is a day old at least.
create function keep_audit_log() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    if current_setting('rootstock.audit_retention', true) = 'on' and old.at < now() - interval '1 day' then
      return old;
    end if;
  end if;
  raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege';
end $$;
create trigger audit_log_kept before update or delete on audit_log for each row execute function keep_audit_log();
create trigger audit_log_not_truncated before truncate on audit_log for each statement execute function keep_audit_log();

-- Deletes at most `most` rows from before `until`. Returns how many.
create function prune_audit_log(until timestamptz, most int) returns int language plpgsql as $$
declare
  deleted int;
begin
  perform set_config('rootstock.audit_retention', 'on', true);
  delete from audit_log where id in (
    select id from audit_log where at < least(until, now() - interval '1 day') order by at, id limit most);
  get diagnostics deleted = row_count;
  perform set_config('rootstock.audit_retention', '', true);
  return deleted;
end $$;

-- `actor`: who acts, as the hub says it (kind, id, email, credential, credentialId, address, userAgent, requestId); null
-- or empty for what nobody asked for: the hub by itself, or somebody with the database at hand.
create function record_audit(
  actor jsonb, action text, target_type text, target_id text, target_name text, project uuid, details jsonb,
  success boolean default true, reason text default null
) returns void language sql as $$
  insert into audit_log (action, success, reason, actor_kind, actor_id, actor_email, credential, credential_id, address,
    user_agent, request_id, target_type, target_id, target_name, project_id, details)
  values (action, success, reason, coalesce(actor->>'kind', 'system'), (actor->>'id')::uuid, actor->>'email',
    actor->>'credential', actor->>'credentialId', actor->>'address', actor->>'userAgent', actor->>'requestId',
    target_type, target_id, target_name, project, coalesce(details, '{}'))
$$;

create function audit_actor() returns jsonb language sql stable as $$
  select nullif(current_setting('rootstock.actor', true), '')::jsonb
$$;

-- What is told of a column: values that are plain, the keys of objects (their values are other people's business).
create function audit_value(value jsonb) returns jsonb language sql immutable as $$
  select case when jsonb_typeof(value) = 'object' then to_jsonb(array(select jsonb_object_keys(value) order by 1)) else value end
$$;

-- Arguments: action, type of target, and the columns that hold the target's id, its name and its project ('' for none);
-- then those that are told beside. Of an update only the changed ones are told, and nothing when none has changed.
create function audit_change() returns trigger language plpgsql as $$
declare
  present jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  former jsonb := case when tg_op = 'UPDATE' then to_jsonb(old) end;
  details jsonb := '{}';
  col text;
begin
  foreach col in array coalesce(tg_argv[5:], '{}') loop
    if tg_op <> 'UPDATE' then
      details := details || jsonb_build_object(col, audit_value(present->col));
    elsif former->col is distinct from present->col then
      if jsonb_typeof(present->col) = 'object' and jsonb_typeof(former->col) = 'object' then
        details := details || jsonb_build_object(col, to_jsonb(array(
          select coalesce(a.key, b.key) from jsonb_each(former->col) a full join jsonb_each(present->col) b using (key)
           where a.value is distinct from b.value order by 1)));
      else
        details := details || jsonb_build_object(col, jsonb_build_object('from', audit_value(former->col), 'to', audit_value(present->col)));
      end if;
    end if;
  end loop;
  if tg_op = 'UPDATE' and array_length(tg_argv, 1) > 5 and details = '{}' then
    return null;
  end if;
  perform record_audit(audit_actor(), tg_argv[0], tg_argv[1], present->>tg_argv[2], present->>tg_argv[3],
    (present->>nullif(tg_argv[4], ''))::uuid, details);
  return null;
end $$;

create trigger users_audited_insert after insert on users for each row
  execute function audit_change('user_created', 'user', 'id', 'email', '', 'role');
create trigger users_audited_role after update of role on users for each row when (old.role is distinct from new.role)
  execute function audit_change('user_role_changed', 'user', 'id', 'email', '', 'role');
create trigger users_audited_status after update of status on users for each row when (old.status is distinct from new.status)
  execute function audit_change('user_status_changed', 'user', 'id', 'email', '', 'status');
create trigger users_audited_version after update of token_version on users for each row
  when (old.token_version <> new.token_version)
  execute function audit_change('signed_out_everywhere', 'user', 'id', 'email', '');
create trigger users_audited_delete after delete on users for each row
  execute function audit_change('user_deleted', 'user', 'id', 'email', '', 'role', 'status');
create trigger user_identities_audited after insert on user_identities for each row
  execute function audit_change('user_identity_linked', 'user', 'user_id', 'email', '', 'issuer', 'subject');

create trigger sign_ins_audited_insert after insert on sign_ins for each row
  execute function audit_change('login', 'user', 'user_id', '', '', 'client', 'id');
create trigger sign_ins_audited_end after update of ended_at on sign_ins for each row
  when (old.ended_at is null and new.ended_at is not null)
  execute function audit_change('logout', 'user', 'user_id', '', '');

create trigger access_tokens_audited_insert after insert on access_tokens for each row
  execute function audit_change('access_token_created', 'access_token', 'id', 'prefix', 'project_id', 'name', 'user_id', 'scopes', 'expires_at');
create trigger access_tokens_audited_revoke after update of revoked_at on access_tokens for each row
  when (old.revoked_at is null and new.revoked_at is not null)
  execute function audit_change('access_token_revoked', 'access_token', 'id', 'prefix', 'project_id');
create trigger access_tokens_audited_delete after delete on access_tokens for each row
  execute function audit_change('access_token_deleted', 'access_token', 'id', 'prefix', 'project_id', 'name', 'user_id');

create trigger invites_audited_insert after insert on invites for each row
  execute function audit_change('invite_created', 'invite', 'id', 'code_prefix', '', 'max_uses', 'expires_at', 'note');
create trigger invites_audited_use after update of use_count on invites for each row when (old.use_count < new.use_count)
  execute function audit_change('invite_redeemed', 'invite', 'id', 'code_prefix', '', 'use_count');
create trigger invites_audited_revoke after update of revoked on invites for each row when (not old.revoked and new.revoked)
  execute function audit_change('invite_revoked', 'invite', 'id', 'code_prefix', '');
create trigger invites_audited_delete after delete on invites for each row
  execute function audit_change('invite_deleted', 'invite', 'id', 'code_prefix', '');

-- Entries that came with one statement are one event (spec/03 section 7).
create function audit_allow_list() returns trigger language plpgsql as $$
declare
  n int;
  entry record;
begin
  select count(*) into n from touched;
  if n = 0 then
    return null;
  end if;
  select id, email into entry from touched limit 1;
  if tg_op = 'DELETE' then
    perform record_audit(audit_actor(), 'allow_list_remove', 'allow_list', t.id::text, t.email, null, '{}') from touched t;
  elsif n = 1 then
    perform record_audit(audit_actor(), 'allow_list_add', 'allow_list', entry.id::text, entry.email, null, '{}');
  else
    perform record_audit(audit_actor(), 'allow_list_bulk_add', 'allow_list', null, null, null, jsonb_build_object('count', n));
  end if;
  return null;
end $$;
create trigger allow_list_audited_insert after insert on allow_list referencing new table as touched
  for each statement execute function audit_allow_list();
create trigger allow_list_audited_delete after delete on allow_list referencing old table as touched
  for each statement execute function audit_allow_list();

create trigger projects_audited_insert after insert on projects for each row
  execute function audit_change('project_created', 'project', 'id', 'slug', 'id', 'name', 'owner_id', 'visibility');
create trigger projects_audited_update
  after update of name, slug, visibility, owner_id, annotations, default_runtime_broker_id on projects for each row
  when (old is distinct from new)
  execute function audit_change('project_changed', 'project', 'id', 'slug', 'id', 'name', 'slug', 'visibility', 'owner_id',
    'annotations', 'default_runtime_broker_id');
create trigger projects_audited_delete after delete on projects for each row
  execute function audit_change('project_deleted', 'project', 'id', 'slug', 'id', 'name', 'owner_id');

create trigger agents_audited_insert after insert on agents for each row
  execute function audit_change('agent_created', 'agent', 'id', 'slug', 'project_id', 'template', 'runtime_broker_id');
create trigger agents_audited_hidden after update of deleted_at on agents for each row
  when (old.deleted_at is null and new.deleted_at is not null)
  execute function audit_change('agent_deleted', 'agent', 'id', 'slug', 'project_id');
create trigger agents_audited_restored after update of deleted_at on agents for each row
  when (old.deleted_at is not null and new.deleted_at is null)
  execute function audit_change('agent_restored', 'agent', 'id', 'slug', 'project_id');
create trigger agents_audited_reset after update of token_version on agents for each row
  when (old.token_version <> new.token_version and old.deleted_at is not distinct from new.deleted_at)
  execute function audit_change('agent_auth_reset', 'agent', 'id', 'slug', 'project_id');
create trigger agents_audited_delete after delete on agents for each row when (old.deleted_at is null)
  execute function audit_change('agent_deleted', 'agent', 'id', 'slug', 'project_id');
create trigger agents_audited_purge after delete on agents for each row when (old.deleted_at is not null)
  execute function audit_change('agent_purged', 'agent', 'id', 'slug', 'project_id');
-- Another replica may carry it out, and later: who asked is known now.
create trigger broker_dispatch_audited after insert on broker_dispatch for each row when (new.op = 'delete')
  execute function audit_change('agent_delete_requested', 'agent', 'agent_id', 'agent_slug', 'project_id');

create trigger runtime_brokers_audited_insert after insert on runtime_brokers for each row
  execute function audit_change('runtime_broker_register', 'runtime_broker', 'id', 'name', '', 'auto_provide');
create trigger runtime_brokers_audited_update after update of name, auto_provide on runtime_brokers for each row
  when (old.name is distinct from new.name or old.auto_provide is distinct from new.auto_provide)
  execute function audit_change('runtime_broker_changed', 'runtime_broker', 'id', 'name', '', 'name', 'auto_provide');
create trigger runtime_brokers_audited_delete after delete on runtime_brokers for each row
  execute function audit_change('runtime_broker_deregister', 'runtime_broker', 'id', 'name', '');
create trigger broker_join_tokens_audited after insert on broker_join_tokens for each row
  execute function audit_change('runtime_broker_join_token_issued', 'runtime_broker', 'runtime_broker_id', '', '', 'expires_at');
create trigger project_providers_audited_insert after insert on project_providers for each row
  execute function audit_change('runtime_broker_link', 'runtime_broker', 'runtime_broker_id', '', 'project_id', 'linked_by');
create trigger project_providers_audited_delete after delete on project_providers for each row
  execute function audit_change('runtime_broker_unlink', 'runtime_broker', 'runtime_broker_id', '', 'project_id');

-- What triggers make of them (a project's own groups, everybody's membership) is told by what they come with.
create trigger groups_audited_insert after insert on groups for each row when (pg_trigger_depth() = 0)
  execute function audit_change('group_created', 'group', 'id', 'slug', 'project_id', 'name', 'owner_id');
create trigger groups_audited_update after update of name, owner_id on groups for each row
  when (pg_trigger_depth() = 0 and (old.name is distinct from new.name or old.owner_id is distinct from new.owner_id))
  execute function audit_change('group_changed', 'group', 'id', 'slug', 'project_id', 'name', 'owner_id');
create trigger groups_audited_delete after delete on groups for each row when (pg_trigger_depth() = 0)
  execute function audit_change('group_deleted', 'group', 'id', 'slug', 'project_id', 'name');
create trigger group_memberships_audited_insert after insert on group_memberships for each row when (pg_trigger_depth() = 0)
  execute function audit_change('group_member_added', 'group', 'group_id', '', '', 'user_id', 'agent_id', 'child_group_id', 'role');
create trigger group_memberships_audited_role after update of role on group_memberships for each row
  when (pg_trigger_depth() = 0 and old.role <> new.role)
  execute function audit_change('group_member_changed', 'group', 'group_id', '', '', 'user_id', 'role');
create trigger group_memberships_audited_delete after delete on group_memberships for each row when (pg_trigger_depth() = 0)
  execute function audit_change('group_member_removed', 'group', 'group_id', '', '', 'user_id', 'agent_id', 'child_group_id', 'role');
create trigger policies_audited_insert after insert on policies for each row when (pg_trigger_depth() = 0)
  execute function audit_change('policy_created', 'policy', 'id', 'name', 'project_id', 'scope_type', 'scope_id', 'resource_type',
    'resource_id', 'actions', 'effect', 'conditions', 'priority');
create trigger policies_audited_update after update on policies for each row when (pg_trigger_depth() = 0)
  execute function audit_change('policy_changed', 'policy', 'id', 'name', 'project_id', 'name', 'resource_type', 'resource_id',
    'actions', 'effect', 'conditions', 'priority');
create trigger policies_audited_delete after delete on policies for each row when (pg_trigger_depth() = 0)
  execute function audit_change('policy_deleted', 'policy', 'id', 'name', 'project_id', 'actions', 'effect');
create trigger policy_bindings_audited_insert after insert on policy_bindings for each row when (pg_trigger_depth() = 0)
  execute function audit_change('policy_bound', 'policy', 'policy_id', '', '', 'user_id', 'group_id', 'agent_id');
create trigger policy_bindings_audited_delete after delete on policy_bindings for each row when (pg_trigger_depth() = 0)
  execute function audit_change('policy_unbound', 'policy', 'policy_id', '', '', 'user_id', 'group_id', 'agent_id');
