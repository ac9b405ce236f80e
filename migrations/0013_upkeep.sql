-- compatible: yes
-- How tables that are written all the time stay small: cleaned after so many dead rows, not after a share of what they
-- hold, so that the indexes of what is pending, running or due stay short however large their tables become. Messages and
-- the change log are large for good and see to themselves.

-- A change of phase is no HOT update (indexes know it); everything else an agent reports is, where its page has room.
alter table agents set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
  autovacuum_analyze_scale_factor = 0.05);
alter table runtime_brokers set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
-- Three states in its life, and claims look for the first two.
alter table broker_dispatch set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);
-- One row for each runtime broker, written over and over in its place.
alter table runtime_broker_heartbeats set (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000);
-- Added and deleted in equal measure, eleven minutes apart.
alter table seen_nonces set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_scale_factor = 1, autovacuum_vacuum_cost_delay = 0);
alter table idempotency_keys set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
-- A handful of rows, each written every second or two: pruned in passing as long as they have room.
alter table sweeps set (fillfactor = 25);
alter table hub_replicas set (fillfactor = 25);

-- A message that has come to its end goes without a word: nobody is told of it, and a purge would fill the log.
create or replace function log_messages_deleted() returns trigger language plpgsql as $$
begin
  insert into change_log (project_id, agent_id, owner_user_id, entity, entity_id, op)
  select m.project_id, m.agent_id, case when m.state is null then m.recipient_id end, 'message', m.id, 'D'
    from removed m where m.state in ('pending', 'delivering') or (m.state is null and not m.read);
  return null;
end $$;
