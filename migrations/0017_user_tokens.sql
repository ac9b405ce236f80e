-- compatible: yes
-- What a person holds after signing in: a row per sign-in, named by its access and refresh tokens (spec/03 1.1).

-- `generation`: a refresh token is good once; the next one carries the next number. One that comes back later was copied.
create table sign_ins (
  id uuid primary key,
  user_id uuid not null references users (id) on delete cascade,
  client text not null check (client in ('web', 'cli', 'api')),
  generation int not null default 1,
  rotated_at timestamptz(3) not null default now(),
  ended_at timestamptz(3),
  created timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null
);
create index sign_ins_user on sign_ins (user_id);
create index sign_ins_expiry on sign_ins (expires_at);
