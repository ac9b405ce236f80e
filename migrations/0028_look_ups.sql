-- compatible: yes
-- What a list counts beside its page is counted within an index: the columns of its conditions that are not in the order
-- go along in it. Read from the table, a thousand rows are a thousand pages.

create index agents_project_owned on agents (project_id, created desc, id desc) include (owner_id) where deleted_at is null;
drop index agents_project_live;
create index messages_said_to on messages (agent_id, sender_id, created desc, id desc) where state is not null;
create index messages_of_agent on messages (agent_id) where state is null;
drop index messages_said;
create or replace function messages_without_agent() returns trigger language plpgsql as $$
begin
  -- Two statements: each has an index.
  update messages m set agent_id = null from gone where m.agent_id = gone.id and m.state is null;
  update messages m set agent_id = null,
      error = case when m.state in ('pending', 'delivering') then 'the agent was deleted' else m.error end,
      state = case when m.state in ('pending', 'delivering') then 'failed' else m.state end
    from gone where m.agent_id = gone.id and m.state is not null;
  return null;
end $$;

-- Where two partial indexes hold the same few rows the planner takes either, and reads one whole that is not in the order
-- of what is asked: for each agent whose message is claimed, all that is on its way anywhere, and the dead beside it. An
-- index that demands its own column is open only to those who ask by it.
create index messages_claimed on messages (claimed_by, runtime_broker_id) where state = 'delivering' and claimed_by is not null;
drop index messages_delivering;
create index broker_dispatch_due on broker_dispatch (deadline_at)
  where state in ('pending', 'in_progress') and deadline_at is not null;
drop index broker_dispatch_deadline;
