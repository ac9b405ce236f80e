-- compatible: yes
-- Runtime brokers, who holds their sockets, and how they prove who they are (spec/01 sections 1, 2, 6).

create table runtime_brokers (
  id uuid primary key,
  name text not null check (name <> ''),
  slug text not null,
  version text not null default '',
  status text not null default 'offline' check (status in ('online', 'offline', 'degraded')),
  capabilities jsonb,
  profiles jsonb not null default '[]',
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  endpoint text,
  auto_provide boolean not null default false,
  created_by uuid,
  -- Affinity: the replica and the socket that hold it now. A hint for routing and the fence of every claim.
  connected_hub_id uuid,
  connected_session_id uuid,
  connected_at timestamptz(3),
  -- When its last socket ended, or when it joined. Null while connected and before that. Every grace counts from it.
  disconnected_at timestamptz(3),
  created timestamptz(3) not null default now(),
  updated timestamptz(3) not null default now(),
  check ((connected_hub_id is null) = (connected_session_id is null)),
  check (connected_hub_id is null or disconnected_at is null)
);
create unique index runtime_brokers_name on runtime_brokers (lower(name));
create index runtime_brokers_owner_replica on runtime_brokers (connected_hub_id) where connected_hub_id is not null;
create index runtime_brokers_silent on runtime_brokers (disconnected_at)
  where connected_hub_id is null and status <> 'offline';
create index runtime_brokers_created on runtime_brokers (created desc, id desc);

alter table projects add constraint projects_default_runtime_broker
  foreign key (default_runtime_broker_id) references runtime_brokers (id) on delete set null;
create index projects_default_runtime_broker on projects (default_runtime_broker_id)
  where default_runtime_broker_id is not null;

-- Apart from runtime_brokers: thousands of heartbeats a minute must not meet the claims that lock the affinity row.
create table runtime_broker_heartbeats (
  runtime_broker_id uuid primary key references runtime_brokers (id) on delete cascade,
  last_heartbeat timestamptz(3) not null
) with (fillfactor = 50);

create table project_providers (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references projects (id) on delete cascade,
  runtime_broker_id uuid not null references runtime_brokers (id) on delete cascade,
  local_path text,
  linked_by text,
  linked_at timestamptz(3) not null default now(),
  unique (project_id, runtime_broker_id)
);
create index project_providers_runtime_broker on project_providers (runtime_broker_id);

create table broker_secrets (
  id uuid primary key,
  runtime_broker_id uuid not null references runtime_brokers (id) on delete cascade,
  -- Encrypted; the key is derived from ROOTSTOCK_SECRET.
  secret bytea not null,
  algorithm text not null default 'hmac-sha256' check (algorithm = 'hmac-sha256'),
  -- Two may be live during a rotation: the active one, and the deprecated one until it expires.
  status text not null default 'active' check (status in ('active', 'deprecated', 'revoked')),
  created timestamptz(3) not null default now(),
  rotated_at timestamptz(3),
  expires_at timestamptz(3)
);
create unique index broker_secrets_one_active on broker_secrets (runtime_broker_id) where status = 'active';
create index broker_secrets_runtime_broker on broker_secrets (runtime_broker_id);

create table broker_join_tokens (
  runtime_broker_id uuid primary key references runtime_brokers (id) on delete cascade,
  token_hash text not null unique,
  expires_at timestamptz(3) not null,
  created_by uuid,
  created timestamptz(3) not null default now()
);
create index broker_join_tokens_expiry on broker_join_tokens (expires_at);

-- Unlogged: a nonce matters for ten minutes, and thousands a minute are written.
create unlogged table seen_nonces (
  runtime_broker_id uuid not null,
  nonce text not null,
  seen_at timestamptz(3) not null default now(),
  primary key (runtime_broker_id, nonce)
);
create index seen_nonces_age on seen_nonces (seen_at);
