-- compatible: yes
-- What waits for an agent whose row goes is over, whoever deletes that: nobody would ever take it, and its caller would wait
-- until it expires. So is what is given back when the row has gone. By trigger: the foreign key empties agent_id.
create function fail_without_agent() returns trigger language plpgsql as $$
begin
  new.state := 'failed';
  new.error := 'the agent was deleted';
  new.result := jsonb_build_object('failure',
    jsonb_build_object('code', 'not_found', 'message', 'agent not found: it was deleted meanwhile'));
  new.updated_at := now();
  return new;
end $$;
create trigger broker_dispatch_without_agent before update on broker_dispatch for each row
  when (new.agent_id is null and new.state = 'pending') execute function fail_without_agent();
