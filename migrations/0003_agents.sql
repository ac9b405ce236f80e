-- compatible: yes
-- Agents, the values kept for them, and who wants to hear of them (spec/02 section 2, spec/04 1.2).

create table agents (
  id uuid primary key,
  project_id uuid not null references projects (id) on delete cascade,
  slug text not null check (slug <> ''),
  name text not null check (name <> ''),
  template text not null default '',
  runtime_broker_id uuid references runtime_brokers (id) on delete set null,
  visibility text not null default 'private' check (visibility in ('private', 'team', 'public')),
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  phase text not null default 'created' check (phase in
    ('created', 'provisioning', 'cloning', 'starting', 'running', 'suspended', 'stopping', 'stopped', 'error')),
  activity text check (activity in
    ('working', 'thinking', 'executing', 'waiting_for_input', 'blocked', 'completed', 'limits_exceeded', 'crashed',
     'stalled', 'offline')),
  tool_name text,
  message text,
  task_summary text,
  stalled_from_activity text,
  connection_state text,
  container_status text,
  runtime_state text,
  exit_code int,
  current_turns int not null default 0,
  current_model_calls int not null default 0,
  image text,
  runtime text,
  detached boolean not null default true,
  web_pty_enabled boolean not null default false,
  applied_config jsonb not null default '{}',
  -- Principals: a user's or an agent's id, hence no foreign keys.
  created_by uuid,
  owner_id uuid,
  -- Root first, the direct parent last; never changes.
  ancestry uuid[] not null default '{}',
  -- Raised to make every token issued before worthless.
  token_version int not null default 1,
  -- One container run; new at each create and start.
  run_id uuid,
  -- A create or start of it is under way.
  launching boolean not null default false,
  -- When this run reached the phase `running`, and when the agent itself first reported an activity in it. Messages
  -- are held until it listens.
  running_since timestamptz(3),
  ready_at timestamptz(3),
  started_at timestamptz(3),
  last_seen timestamptz(3),
  last_activity_event timestamptz(3),
  deleted_at timestamptz(3),
  state_version int not null default 1,
  created timestamptz(3) not null default now(),
  updated timestamptz(3) not null default now()
) with (fillfactor = 85);
-- A soft-deleted agent does not keep its name from a new one.
create unique index agents_slug on agents (project_id, slug) where deleted_at is null;
create index agents_created on agents (created desc, id desc);
create index agents_project on agents (project_id, created desc, id desc);
create index agents_runtime_broker on agents (runtime_broker_id);
create index agents_owner on agents (owner_id);
create index agents_ancestry on agents using gin (ancestry);
create index agents_running on agents (project_id) where phase = 'running' and deleted_at is null;
create index agents_deleted on agents (deleted_at) where deleted_at is not null;

-- Values gathered from a person's environment, so that a later start does not fail for want of them.
create table agent_kept_values (
  agent_id uuid not null references agents (id) on delete cascade,
  key text not null,
  -- Encrypted; the key is derived from ROOTSTOCK_SECRET.
  value bytea not null,
  updated timestamptz(3) not null default now(),
  primary key (agent_id, key)
);

create table notification_subscriptions (
  id uuid primary key,
  scope text not null default 'agent' check (scope in ('agent', 'project')),
  agent_id uuid references agents (id) on delete cascade,
  subscriber_type text not null check (subscriber_type in ('agent', 'user')),
  subscriber_id uuid not null,
  project_id uuid not null references projects (id) on delete cascade,
  trigger_activities jsonb not null,
  created_by uuid not null,
  created timestamptz(3) not null default now(),
  check ((scope = 'agent') = (agent_id is not null)),
  unique nulls not distinct (scope, agent_id, subscriber_type, subscriber_id, project_id)
);
create index notification_subscriptions_agent on notification_subscriptions (agent_id);
create index notification_subscriptions_project on notification_subscriptions (project_id);
create index notification_subscriptions_subscriber on notification_subscriptions (subscriber_id);
