-- compatible: yes
-- People sign in: who they are at which issuer, who may come in at all, and when what they hold is void (spec/03 3.7).

alter table users add column token_version int not null default 1;

-- Whoever is suspended or loses rights is out at once, whichever statement does it: tokens name the version.
create function void_users_tokens() returns trigger language plpgsql as $$
declare
  ranks text[] := array['viewer', 'member', 'admin'];
begin
  if (old.status = 'active' and new.status <> 'active')
    or array_position(ranks, new.role) < array_position(ranks, old.role) then
    new.token_version := greatest(new.token_version, old.token_version + 1);
  end if;
  return new;
end $$;
create trigger users_tokens_voided before update on users for each row
  when (old.status is distinct from new.status or old.role is distinct from new.role)
  execute function void_users_tokens();

create trigger users_inserted after insert on users for each row
  execute function log_change('user', 'role', 'status');
create trigger users_deleted after delete on users for each row
  execute function log_change('user');
create trigger users_updated after update on users for each row
  when (to_jsonb(old) - '{last_login,last_seen}'::text[] is distinct from to_jsonb(new) - '{last_login,last_seen}'::text[])
  execute function log_change('user', 'role', 'status');

-- A person is an issuer's subject: an address may be given to somebody else. One subject of each issuer per user, so
-- that an address which its issuer has given away opens no old account.
create table user_identities (
  issuer text not null check (issuer <> ''),
  subject text not null check (subject <> ''),
  user_id uuid not null references users (id) on delete cascade,
  email text not null,
  created timestamptz(3) not null default now(),
  last_login timestamptz(3) not null default now(),
  primary key (issuer, subject),
  unique (user_id, issuer)
);

create table invites (
  id uuid primary key,
  code_hash bytea not null unique,
  code_prefix text not null,
  max_uses int not null check (max_uses >= 0),
  use_count int not null default 0,
  expires_at timestamptz(3) not null,
  revoked boolean not null default false,
  created_by uuid,
  note text not null default '',
  created timestamptz(3) not null default now(),
  last_used timestamptz(3)
);
create index invites_created on invites (created desc, id desc);

create table allow_list (
  id uuid primary key,
  email text not null unique check (email <> '' and email = lower(btrim(email))),
  note text not null default '',
  added_by uuid,
  invite_id uuid references invites (id) on delete set null,
  created timestamptz(3) not null default now()
);
create index allow_list_created on allow_list (created desc, id desc);
create index allow_list_invite on allow_list (invite_id) where invite_id is not null;
