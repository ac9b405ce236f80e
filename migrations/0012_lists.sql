-- compatible: yes
-- A page of a list costs what its rows cost, however many there are beside them: for each way to ask for one there is an
-- index in the order of the list, and it holds nothing else.

create index agents_live on agents (created desc, id desc) where deleted_at is null;
create index agents_project_live on agents (project_id, created desc, id desc) where deleted_at is null;
create index agents_phase on agents (phase, created desc, id desc) where deleted_at is null;
create index agents_project_phase on agents (project_id, phase, created desc, id desc) where deleted_at is null;
drop index agents_owner;
create index agents_owner on agents (owner_id, created desc, id desc) where deleted_at is null;
-- A person stands in an ancestry as its root alone.
create index agents_root on agents ((ancestry[1]), created desc, id desc) where deleted_at is null;
drop index agents_runtime_broker;
create index agents_runtime_broker on agents (runtime_broker_id, created desc, id desc);
-- Names without a project.
create index agents_slug_anywhere on agents (slug);
create index agents_name on agents (lower(name));

-- What somebody said to an agent, and what a person got from it. Messages between agents are in no person's list.
drop index messages_agent;
create index messages_said on messages (agent_id, sender_id, created desc, id desc);
create index messages_to_person_from on messages (recipient_id, agent_id, created desc, id desc) where state is null;
create index messages_to_person_unread on messages (recipient_id, created desc, id desc) where state is null and not read;
