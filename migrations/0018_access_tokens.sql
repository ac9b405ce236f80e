-- compatible: yes
-- Tokens that a person gives to a program: one project, some scopes, an end (spec/03 1.3). Kept as hashes, shown once.

create table access_tokens (
  id uuid primary key,
  user_id uuid not null references users (id) on delete cascade,
  project_id uuid not null references projects (id) on delete cascade,
  name text not null check (name <> ''),
  prefix text not null,
  token_hash bytea not null unique,
  scopes text[] not null,
  expires_at timestamptz(3) not null,
  last_used timestamptz(3),
  revoked_at timestamptz(3),
  created timestamptz(3) not null default now()
);
create index access_tokens_user on access_tokens (user_id, created desc, id desc);
create index access_tokens_project on access_tokens (project_id);
