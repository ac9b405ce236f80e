-- compatible: yes
-- Who may read a project, or an agent by itself, has changed: replicas tell those who listen of what they may read now.

-- With what decides it, so that nobody has to ask; labels of any length are asked for.
create function log_project_access() returns trigger language plpgsql as $$
begin
  insert into change_log (owner_user_id, entity, entity_id, op, payload)
  values (new.owner_id, 'project_access', new.id, left(tg_op, 1), jsonb_build_object('visibility', new.visibility)
    || case when octet_length(new.labels::text) <= 2048 then jsonb_build_object('labels', new.labels) else '{}' end);
  return null;
end $$;
-- One that is private and nobody's is read by admins, who read everything.
create trigger projects_access_inserted after insert on projects for each row
  when (new.visibility <> 'private' or new.owner_id is not null) execute function log_project_access();
create trigger projects_access_updated after update of visibility, owner_id, labels on projects for each row
  when (old.visibility <> new.visibility or old.owner_id is distinct from new.owner_id or old.labels <> new.labels)
  execute function log_project_access();

create function log_agent_access() returns trigger language plpgsql as $$
begin
  insert into change_log (entity, entity_id, op) values ('agent_access', new.id, left(tg_op, 1));
  return null;
end $$;
-- One that is private is read by those who read all of its project's: nothing has changed for them.
create trigger agents_access_inserted after insert on agents for each row
  when (new.visibility <> 'private') execute function log_agent_access();
create trigger agents_access_updated after update of visibility, owner_id, labels on agents for each row
  when (old.visibility <> new.visibility or old.owner_id is distinct from new.owner_id or old.labels <> new.labels)
  execute function log_agent_access();
