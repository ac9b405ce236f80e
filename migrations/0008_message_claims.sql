-- compatible: yes
-- A claim looks at the agents that run at a runtime broker; how many have ever been there must not matter.
create index agents_running_at on agents (runtime_broker_id) where phase = 'running' and deleted_at is null;
