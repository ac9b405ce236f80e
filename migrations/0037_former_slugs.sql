-- compatible: yes
-- Runtime brokers keep the folder that a project's agents share by the project's slug. One that is free again, because its
-- project was deleted or renamed, leads to the files of that project: only its owner makes another under it.
create table former_slugs (
  slug text not null,
  project_id uuid not null,
  owner_id uuid,
  primary key (slug, project_id)
);

insert into former_slugs (slug, project_id, owner_id)
select distinct on (target_name, target_id) target_name, target_id::uuid, (details ->> 'owner_id')::uuid
  from audit_log
 where action = 'project_deleted' and target_id is not null and coalesce(target_name, '') <> ''
 order by target_name, target_id, at desc;

create function keep_former_slug() returns trigger language plpgsql as $$
begin
  insert into former_slugs (slug, project_id, owner_id) values (old.slug, old.id, old.owner_id)
  on conflict (slug, project_id) do update set owner_id = excluded.owner_id;
  return null;
end $$;
create trigger projects_slug_kept after delete on projects for each row execute function keep_former_slug();
create trigger projects_slug_kept_on_change after update of slug on projects for each row
  when (old.slug is distinct from new.slug) execute function keep_former_slug();
