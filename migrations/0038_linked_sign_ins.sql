-- compatible: yes
-- The sign-ins that open an account are listed and taken away one by one; that one is gone, and an address that has followed
-- its issuer, is told.
alter table user_identities add column id uuid not null default gen_random_uuid();
create unique index user_identities_id on user_identities (id);

-- Those that go with their account are told of with it.
create trigger user_identities_audited_delete after delete on user_identities for each row when (pg_trigger_depth() = 0)
  execute function audit_change('user_identity_unlinked', 'user', 'user_id', 'email', '', 'issuer', 'subject');
create trigger users_audited_email after update of email on users for each row when (old.email is distinct from new.email)
  execute function audit_change('user_email_changed', 'user', 'id', 'email', '', 'email');
