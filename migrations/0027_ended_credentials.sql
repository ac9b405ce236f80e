-- compatible: yes
-- What somebody holds has ended before its time: every replica is told, and ends what was opened with it (streams last
-- longer than a look at their credential). Arguments: what holds, and the column that names it.

create function log_credential_ended() returns trigger language plpgsql as $$
declare
  this jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
begin
  insert into change_log (entity, entity_id, op, payload)
  values ('credential', (this ->> tg_argv[1])::uuid, 'U', jsonb_build_object('of', tg_argv[0]));
  return null;
end $$;

-- Those that go with their time have ended before.
create trigger sign_ins_ended after update of ended_at on sign_ins for each row
  when (old.ended_at is null and new.ended_at is not null) execute function log_credential_ended('sign_in', 'id');

create trigger access_tokens_revoked after update of revoked_at on access_tokens for each row
  when (old.revoked_at is null and new.revoked_at is not null)
  execute function log_credential_ended('access_token', 'id');
create trigger access_tokens_deleted after delete on access_tokens for each row
  when (old.revoked_at is null) execute function log_credential_ended('access_token', 'id');

-- An agent holds tokens of its row's version, for as long as it is there.
create trigger agents_tokens_ended after update of token_version, deleted_at on agents for each row
  when (old.token_version <> new.token_version or (old.deleted_at is null and new.deleted_at is not null))
  execute function log_credential_ended('agent', 'id');
create trigger agents_gone after delete on agents for each row
  when (old.deleted_at is null) execute function log_credential_ended('agent', 'id');

create trigger broker_secrets_replaced after update of status, expires_at on broker_secrets for each row
  when (old.status is distinct from new.status or old.expires_at is distinct from new.expires_at)
  execute function log_credential_ended('runtime_broker', 'runtime_broker_id');
create trigger broker_secrets_deleted after delete on broker_secrets for each row
  when (old.status = 'active') execute function log_credential_ended('runtime_broker', 'runtime_broker_id');
