-- compatible: yes
-- What another replica carries out, and later, is on the account of who asked for it: of them the intent knows the id.

-- An actor of kind `asker` is whoever has its id: they may have gone meanwhile, and are then who they were when they last
-- did something. Everything else stays as the hub says it.
create function audit_asker(actor jsonb) returns jsonb language sql stable as $$
  select case when actor->>'kind' <> 'asker' then actor else actor || coalesce(
    (select jsonb_build_object('kind', 'user', 'email', u.email) from users u where u.id = (actor->>'id')::uuid),
    (select jsonb_build_object('kind', 'agent') from agents a where a.id = (actor->>'id')::uuid),
    (select jsonb_build_object('kind', 'runtimeBroker') from runtime_brokers r where r.id = (actor->>'id')::uuid),
    (select jsonb_build_object('kind', l.actor_kind, 'email', l.actor_email) from audit_log l
      where l.actor_id = (actor->>'id')::uuid order by l.at desc, l.id desc limit 1),
    jsonb_build_object('kind', 'system')) end
$$;

create or replace function record_audit(
  actor jsonb, action text, target_type text, target_id text, target_name text, project uuid, details jsonb,
  success boolean default true, reason text default null
) returns void language sql as $$
  insert into audit_log (action, success, reason, actor_kind, actor_id, actor_email, credential, credential_id, address,
    user_agent, request_id, target_type, target_id, target_name, project_id, details)
  select action, success, reason, coalesce(who->>'kind', 'system'), (who->>'id')::uuid, who->>'email',
    who->>'credential', who->>'credentialId', who->>'address', who->>'userAgent', who->>'requestId',
    target_type, target_id, target_name, project, coalesce(details, '{}')
    from (select audit_asker(actor) as who) a
$$;
