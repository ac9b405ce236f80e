-- compatible: yes
-- What agents' configurations give their containers (`env`, `inlineConfig`), sealed: keys and passwords are among it.
-- Rows that hold it as it was given, in `applied_config`, are sealed by a sweep once no replica is left that looks for it
-- there alone. Apart from the agents: lists and messages read those, and have no use for it.
create table agent_config_values (
  agent_id uuid not null references agents (id) on delete cascade,
  name text not null check (name in ('env', 'inlineConfig')),
  value bytea not null,
  primary key (agent_id, name)
);
comment on column agent_config_values.value is 'an envelope, as broker_secrets.secret';
-- What is left to seal; empty but for that.
create index agents_unsealed_config on agents (id) where applied_config ?| array['env', 'inlineConfig'];
