-- compatible: yes
-- Intents: what a runtime broker is to do, and messages on their way to agents (design section 5).

-- Order is a number from this sequence, never a clock. Cache 1: sessions otherwise hold private ranges.
create sequence message_seq cache 1;

create table messages (
  id uuid primary key,
  seq bigint not null default nextval('message_seq'),
  project_id uuid not null references projects (id) on delete cascade,
  -- The agent involved: the recipient where there is a state, else the sender.
  agent_id uuid references agents (id) on delete set null,
  runtime_broker_id uuid references runtime_brokers (id) on delete set null,
  sender text not null,
  sender_id uuid,
  recipient text not null,
  recipient_id uuid,
  msg text not null,
  type text not null default 'instruction',
  urgent boolean not null default false,
  broadcasted boolean not null default false,
  read boolean not null default false,
  group_id text,
  channel text,
  thread_id text,
  -- The structured message without `msg`, as it is delivered.
  envelope jsonb not null default '{}',
  interrupt boolean not null default false,
  -- Null for a message to a person: it is delivered by being read.
  state text check (state in ('pending', 'delivering', 'delivered', 'failed')),
  -- Why it waits, in words, while it is pending.
  hold_reason text,
  claimed_by uuid,
  claim_session uuid,
  attempts int not null default 0,
  error text,
  traceparent text,
  created_by uuid,
  created timestamptz(3) not null default now(),
  dispatched_at timestamptz(3),
  check ((state = 'delivering') = (claimed_by is not null and claim_session is not null))
);
create index messages_undelivered on messages (agent_id, seq) where state in ('pending', 'delivering');
-- One message of an agent is on the wire at a time, whatever two replicas believe of themselves.
create unique index messages_one_in_flight on messages (agent_id) where state = 'delivering';
create index messages_undelivered_by_runtime_broker on messages (runtime_broker_id, seq)
  where state in ('pending', 'delivering');
create index messages_delivering on messages (claimed_by) where state = 'delivering';
create index messages_undelivered_age on messages (created) where state in ('pending', 'delivering');
-- What a delivered message carried beside its text is dropped after a while; only large ones are worth the look.
create index messages_trimmable on messages (dispatched_at)
  where state = 'delivered' and octet_length(envelope::text) > 512;
create index messages_recipient on messages (recipient_id, created desc, id desc);
create index messages_agent on messages (agent_id, created desc, id desc);
create index messages_project on messages (project_id, created desc, id desc);
create index messages_sender on messages (sender_id);

create table broker_dispatch (
  id uuid primary key,
  runtime_broker_id uuid not null references runtime_brokers (id) on delete cascade,
  agent_id uuid references agents (id) on delete set null,
  agent_slug text not null default '',
  project_id uuid,
  op text not null check (op in
    ('create', 'start', 'stop', 'restart', 'suspend', 'resume', 'delete', 'check_prompt', 'finalize_env')),
  -- Ids, flags and names; never a secret: gathered values are in agent_kept_values.
  args jsonb not null default '{}',
  state text not null default 'pending' check (state in ('pending', 'in_progress', 'done', 'failed', 'expired')),
  result jsonb,
  error text,
  claimed_by uuid,
  claim_session uuid,
  -- How often it was claimed.
  attempts int not null default 0,
  max_attempts int not null default 3,
  deadline_at timestamptz(3) not null,
  traceparent text,
  created_by uuid,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  check ((state = 'in_progress') <= (claimed_by is not null and claim_session is not null))
);
create sequence broker_dispatch_seq cache 1;
alter table broker_dispatch add column seq bigint not null default nextval('broker_dispatch_seq');
create index broker_dispatch_pending on broker_dispatch (runtime_broker_id, seq) where state = 'pending';
create index broker_dispatch_unfinished on broker_dispatch (agent_id) where state in ('pending', 'in_progress');
create index broker_dispatch_claimed on broker_dispatch (claimed_by) where state = 'in_progress';
create index broker_dispatch_deadline on broker_dispatch (deadline_at) where state in ('pending', 'in_progress');
create index broker_dispatch_finished on broker_dispatch (updated_at) where state in ('done', 'failed', 'expired');
