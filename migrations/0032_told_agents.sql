-- compatible: yes
-- Before a table has statistics, the planner finds every index that an agent's rows are in equally cheap. Whether a message
-- of an agent is on its way was so asked of all that it had ever been told. Who wants those says it in these words, from
-- which no state follows.
create index messages_told_to on messages (agent_id, sender_id, created desc, id desc) where length(state) > 0;
drop index messages_said_to;
create or replace function messages_without_agent() returns trigger language plpgsql as $$
begin
  -- Two statements: each has an index.
  update messages m set agent_id = null from gone where m.agent_id = gone.id and m.state is null;
  update messages m set agent_id = null,
      error = case when m.state in ('pending', 'delivering') then 'the agent was deleted' else m.error end,
      state = case when m.state in ('pending', 'delivering') then 'failed' else m.state end
    from gone where m.agent_id = gone.id and length(m.state) > 0;
  return null;
end $$;
