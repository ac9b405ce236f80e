-- compatible: yes
-- Who has an agent started, stopped, suspended, resumed or restarted. Recorded with the intent, in its transaction: another
-- replica may carry it out, and later. A replica of an earlier version does not say who acts: it is then whoever the intent
-- names.
create function audit_lifecycle() returns trigger language plpgsql as $$
begin
  perform record_audit(
    coalesce(audit_actor(), jsonb_build_object('kind', 'asker', 'id', new.created_by, 'credential', 'dispatch',
      'credentialId', new.id)),
    'agent_' || new.op || '_requested', 'agent', new.agent_id::text, new.agent_slug, new.project_id,
    jsonb_build_object('dispatch_id', new.id));
  return null;
end $$;
create trigger broker_dispatch_audited_lifecycle after insert on broker_dispatch for each row
  when (new.op in ('start', 'stop', 'suspend', 'resume', 'restart')) execute function audit_lifecycle();
