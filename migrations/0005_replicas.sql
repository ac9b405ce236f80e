-- compatible: yes
-- The replicas that live now, their periodic work, and answers that a repeated call gets again (design sections 3, 5, 7).

create table hub_replicas (
  instance_id uuid primary key,
  -- The advisory lock that this replica holds while it lives.
  lock_key bigint not null unique,
  name text not null,
  internal_url text,
  version text not null,
  state text not null default 'serving' check (state in ('serving', 'draining')),
  started_at timestamptz(3) not null default now(),
  -- The lease. Written through the pool, so that a hung process whose connection is still open is noticed.
  last_seen timestamptz(3) not null default now()
);

create table sweeps (
  name text primary key,
  next_at timestamptz(3) not null default '-infinity'
);

create table idempotency_keys (
  principal text not null,
  key text not null,
  method text not null,
  path text not null,
  body_hash bytea not null,
  -- What the call set in motion, enough to finish it on any replica: ids, never a secret.
  operation jsonb not null,
  status int,
  -- The kept answer, encrypted like other secrets: it may hold one.
  answer bytea,
  created timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null,
  primary key (principal, key),
  check ((status is null) = (answer is null))
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);
