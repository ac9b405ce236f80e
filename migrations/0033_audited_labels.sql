-- compatible: yes
-- Policies look at labels, and shared folders reach into every container: whoever changes them changes what others may do.
create or replace trigger projects_audited_update
  after update of name, slug, visibility, owner_id, annotations, default_runtime_broker_id, labels, shared_dirs on projects
  for each row when (old is distinct from new)
  execute function audit_change('project_changed', 'project', 'id', 'slug', 'id', 'name', 'slug', 'visibility', 'owner_id',
    'annotations', 'default_runtime_broker_id', 'labels', 'shared_dirs');
create or replace trigger groups_audited_update after update of name, owner_id, labels on groups for each row
  when (pg_trigger_depth() = 0 and (old.name, old.owner_id, old.labels) is distinct from (new.name, new.owner_id, new.labels))
  execute function audit_change('group_changed', 'group', 'id', 'slug', 'project_id', 'name', 'owner_id', 'labels');
