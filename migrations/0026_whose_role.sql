-- compatible: yes
-- Whose role was changed, not only from what to what: the member is no part of the change.
create function audit_member_role() returns trigger language plpgsql as $$
begin
  perform record_audit(audit_actor(), 'group_member_changed', 'group', new.group_id::text, null, null,
    jsonb_strip_nulls(jsonb_build_object('user_id', new.user_id, 'agent_id', new.agent_id,
      'role', jsonb_build_object('from', old.role, 'to', new.role))));
  return null;
end $$;
create or replace trigger group_memberships_audited_role after update of role on group_memberships for each row
  when (pg_trigger_depth() = 0 and old.role <> new.role)
  execute function audit_member_role();
