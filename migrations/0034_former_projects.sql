-- compatible: yes
-- Whoever makes a project may choose its id. What was told of a project that is gone (audit log, events that are kept for
-- resuming) goes by its id: under the same id nobody but its owner makes another.
create table former_projects (
  id uuid primary key,
  owner_id uuid,
  deleted_at timestamptz not null default now()
);

insert into former_projects (id, owner_id, deleted_at)
select distinct on (target_id) target_id::uuid, (details ->> 'owner_id')::uuid, at
  from audit_log where action = 'project_deleted' and target_id is not null order by target_id, at desc;

create function keep_former_project() returns trigger language plpgsql as $$
begin
  insert into former_projects (id, owner_id) values (old.id, old.owner_id)
  on conflict (id) do update set owner_id = excluded.owner_id, deleted_at = excluded.deleted_at;
  return null;
end $$;
create trigger projects_kept after delete on projects for each row execute function keep_former_project();
