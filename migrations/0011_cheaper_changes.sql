-- compatible: yes
-- What a change costs whoever makes it. Measured for a row among sixteen of a statement, its own insert or update left
-- out: a message 18 µs before and 6 now, an agent's report 150 and 20. Transition tables let one statement write the
-- changes of all rows, and its expressions cost a fraction of what the same ones cost in a function run for each row.

-- Rows go from the lowest id on: the order of age. Transactions alone find what is unseen, and many rows share one.
drop index change_log_age;
drop index change_log_tx;
create index change_log_tx on change_log (tx);
-- Only the triggers below write here.
alter table change_log drop constraint change_log_op_check;
-- Rows are never updated, and go in the order in which they came: their pages are full, then empty, then used again.
-- Rows deleted and vacuumed cost 1 to 2 µs each; partitions to be dropped cost every insert as much, and every read more.
alter table change_log set (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 500000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500000,
  autovacuum_vacuum_cost_delay = 0);

-- Messages: nothing of them but who they are from and to. The rest is read by whoever tells somebody of them.
create function log_messages_inserted() returns trigger language plpgsql as $$
begin
  insert into change_log (project_id, agent_id, owner_user_id, entity, entity_id, op)
  select m.project_id, m.agent_id, case when m.state is null then m.recipient_id end, 'message', m.id, 'I' from added m;
  return null;
end $$;
create function log_messages_deleted() returns trigger language plpgsql as $$
begin
  insert into change_log (project_id, agent_id, owner_user_id, entity, entity_id, op)
  select m.project_id, m.agent_id, case when m.state is null then m.recipient_id end, 'message', m.id, 'D' from removed m;
  return null;
end $$;
drop trigger messages_inserted on messages;
drop trigger messages_deleted on messages;
create trigger messages_inserted after insert on messages referencing new table as added
  for each statement execute function log_messages_inserted();
create trigger messages_deleted after delete on messages referencing old table as removed
  for each statement execute function log_messages_deleted();

-- Whether nothing changed but what is no news. Still a deny-list: a column added later is news until it is put here.
create function agent_is_noise(before agents, after agents) returns boolean immutable language plpgsql as $$
begin
  after.updated := before.updated;
  after.last_seen := before.last_seen;
  after.last_activity_event := before.last_activity_event;
  after.state_version := before.state_version;
  after.launching := before.launching;
  if after.container_status is distinct from before.container_status then
    if container_state(after.container_status) is not distinct from container_state(before.container_status) then
      after.container_status := before.container_status;
    end if;
  end if;
  return after *= before;
end $$;

-- The names of the changed columns are spelled out, all that are news: as a comparison of JSON they cost as much as
-- everything else together. (A test changes every column there is, and wants its name.)
create function log_agents_updated() returns trigger language plpgsql as $$
begin
  insert into change_log (project_id, agent_id, owner_user_id, entity, entity_id, op, changed, payload)
  select u.project_id, u.id, u.owner_id, 'agent', u.id, 'U', u.changed,
      -- Long texts are left out, and read when the event is made. Text is never seven times as long as what is measured.
      case when pg_column_size(u.payload) <= 290 or octet_length(u.payload::text) <= 2048 then u.payload
        else (select coalesce(jsonb_object_agg(p.key, p.value), '{}') || '{"cut": true}'
                from jsonb_each(u.payload) p where octet_length(p.value::text) <= 100) end
    from (
      select a.id, a.project_id, a.owner_id, c.changed, jsonb_strip_nulls(jsonb_build_object(
          'phase', a.phase, 'activity', a.activity, 'tool_name', a.tool_name, 'message', a.message,
          'task_summary', a.task_summary, 'container_status', a.container_status, 'current_turns', a.current_turns,
          'current_model_calls', a.current_model_calls, 'started_at', a.started_at, 'deleted_at', a.deleted_at,
          'exit_code', a.exit_code)) as payload
        from after a join before b on b.id = a.id
       cross join lateral (select array_remove(array[
          case when a.project_id <> b.project_id then 'project_id' end,
          case when a.slug <> b.slug then 'slug' end,
          case when a.name <> b.name then 'name' end,
          case when a.template <> b.template then 'template' end,
          case when a.runtime_broker_id is distinct from b.runtime_broker_id then 'runtime_broker_id' end,
          case when a.visibility <> b.visibility then 'visibility' end,
          case when a.labels <> b.labels then 'labels' end,
          case when a.annotations <> b.annotations then 'annotations' end,
          case when a.phase <> b.phase then 'phase' end,
          case when a.activity is distinct from b.activity then 'activity' end,
          case when a.tool_name is distinct from b.tool_name then 'tool_name' end,
          case when a.message is distinct from b.message then 'message' end,
          case when a.task_summary is distinct from b.task_summary then 'task_summary' end,
          case when a.stalled_from_activity is distinct from b.stalled_from_activity then 'stalled_from_activity' end,
          case when a.connection_state is distinct from b.connection_state then 'connection_state' end,
          case when a.container_status is distinct from b.container_status
            and container_state(a.container_status) is distinct from container_state(b.container_status)
            then 'container_status' end,
          case when a.runtime_state is distinct from b.runtime_state then 'runtime_state' end,
          case when a.exit_code is distinct from b.exit_code then 'exit_code' end,
          case when a.current_turns <> b.current_turns then 'current_turns' end,
          case when a.current_model_calls <> b.current_model_calls then 'current_model_calls' end,
          case when a.image is distinct from b.image then 'image' end,
          case when a.runtime is distinct from b.runtime then 'runtime' end,
          case when a.detached <> b.detached then 'detached' end,
          case when a.web_pty_enabled <> b.web_pty_enabled then 'web_pty_enabled' end,
          case when a.applied_config <> b.applied_config then 'applied_config' end,
          case when a.created_by is distinct from b.created_by then 'created_by' end,
          case when a.owner_id is distinct from b.owner_id then 'owner_id' end,
          case when a.ancestry <> b.ancestry then 'ancestry' end,
          case when a.token_version <> b.token_version then 'token_version' end,
          case when a.run_id is distinct from b.run_id then 'run_id' end,
          case when a.running_since is distinct from b.running_since then 'running_since' end,
          case when a.ready_at is distinct from b.ready_at then 'ready_at' end,
          case when a.started_at is distinct from b.started_at then 'started_at' end,
          case when a.deleted_at is distinct from b.deleted_at then 'deleted_at' end,
          case when a.created <> b.created then 'created' end], null) as changed offset 0) c
       where c.changed <> '{}' or not agent_is_noise(row(b.*)::agents, row(a.*)::agents) offset 0) u;
  return null;
end $$;
drop trigger agents_updated on agents;
create trigger agents_updated after update on agents referencing old table as before new table as after
  for each statement execute function log_agents_updated();

-- Sockets come and go by the thousand: comparing rows as JSON cost each of them more than the update.
create function runtime_broker_is_noise(before runtime_brokers, after runtime_brokers) returns boolean immutable language plpgsql as $$
begin
  after.updated := before.updated;
  after.connected_hub_id := before.connected_hub_id;
  after.connected_session_id := before.connected_session_id;
  after.connected_at := before.connected_at;
  after.disconnected_at := before.disconnected_at;
  return after *= before;
end $$;
drop trigger runtime_brokers_updated on runtime_brokers;
create trigger runtime_brokers_updated after update on runtime_brokers for each row
  when (not runtime_broker_is_noise(old, new)) execute function log_change('runtime_broker', 'name', 'status');
