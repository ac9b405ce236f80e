-- compatible: yes
-- Who may do what beyond their own: groups of people and agents, and policies bound to them (spec/03 section 5).

create table groups (
  id uuid primary key,
  name text not null check (name <> ''),
  slug text not null unique check (slug <> ''),
  description text not null default '',
  -- `project_agents`: all agents of the project, found when asked for. No rows say who is in it.
  group_type text not null default 'explicit' check (group_type in ('explicit', 'project_agents')),
  project_id uuid references projects (id) on delete cascade,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  created timestamptz(3) not null default now(),
  updated timestamptz(3) not null default now(),
  created_by uuid,
  owner_id uuid references users (id) on delete set null,
  check (group_type = 'explicit' or project_id is not null),
  -- Names of projects' groups are the hub's: one taken by hand would keep its project from being made.
  check (project_id is not null or slug not like 'project:%')
);
create unique index groups_project_agents on groups (project_id) where group_type = 'project_agents';
create index groups_project on groups (project_id) where project_id is not null;
create index groups_owner on groups (owner_id) where owner_id is not null;
create index groups_created on groups (created, id);

-- A row is one member: a person, an agent, or another group with all that are in it.
create table group_memberships (
  id uuid primary key default gen_random_uuid(),
  group_id uuid not null references groups (id) on delete cascade,
  user_id uuid references users (id) on delete cascade,
  agent_id uuid references agents (id) on delete cascade,
  child_group_id uuid references groups (id) on delete cascade,
  role text not null default 'member' check (role in ('member', 'admin', 'owner')),
  added_by text,
  added_at timestamptz(3) not null default now(),
  check (num_nonnulls(user_id, agent_id, child_group_id) = 1),
  unique (group_id, user_id),
  unique (group_id, agent_id),
  unique (group_id, child_group_id)
);
create index group_memberships_user on group_memberships (user_id) where user_id is not null;
create index group_memberships_agent on group_memberships (agent_id) where agent_id is not null;
create index group_memberships_child on group_memberships (child_group_id) where child_group_id is not null;

-- Looked at after the row is there, by one transaction at a time: two that nest two groups into each other at once would
-- each see no circle. The lock's numbers are LOCK_CLASSES.groupNesting of packages/store/src/locks.ts.
create function check_group_membership() returns trigger language plpgsql as $$
begin
  if exists (select from groups where id = new.group_id and group_type <> 'explicit') then
    raise exception 'members of group % are found, not added', new.group_id
      using errcode = 'check_violation', constraint = 'group_memberships_of_found_group';
  end if;
  if new.child_group_id is not null then
    perform pg_advisory_xact_lock(1545666562, 0);
    if exists (
      with recursive inside (id) as (
        select new.child_group_id
        union
        select m.child_group_id from group_memberships m join inside i on m.group_id = i.id
         where m.child_group_id is not null)
      select from inside where id = new.group_id) then
      raise exception 'group % would be inside itself', new.group_id
        using errcode = 'check_violation', constraint = 'group_memberships_circle';
    end if;
  end if;
  return null;
end $$;
create trigger group_memberships_checked
  after insert or update of group_id, child_group_id on group_memberships for each row
  execute function check_group_membership();

create table policies (
  id uuid primary key,
  name text not null check (name <> ''),
  description text not null default '',
  scope_type text not null check (scope_type in ('hub', 'project', 'resource')),
  scope_id uuid,
  project_id uuid generated always as (case when scope_type = 'project' then scope_id end) stored
    references projects (id) on delete cascade,
  resource_type text not null default '*' check (resource_type <> ''),
  resource_id uuid,
  actions text[] not null,
  effect text not null check (effect in ('allow', 'deny')),
  conditions jsonb not null default '{}' check (jsonb_typeof(conditions) = 'object'),
  delegated_from uuid generated always as ((conditions #>> '{delegatedFrom,principalId}')::uuid) stored,
  delegated_from_group uuid generated always as ((conditions ->> 'delegatedFromGroup')::uuid) stored,
  priority int not null default 0,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  created timestamptz(3) not null default now(),
  updated timestamptz(3) not null default now(),
  created_by uuid,
  -- Made by the hub itself, once under its name.
  seeded boolean not null default false,
  check (scope_type = 'hub' or scope_id is not null)
);
create unique index policies_seeded on policies (name) where seeded;
create index policies_project on policies (project_id) where project_id is not null;
create index policies_delegated on policies (delegated_from) where delegated_from is not null;
create index policies_delegated_group on policies (delegated_from_group) where delegated_from_group is not null;
create index policies_created on policies (created, id);

create table policy_bindings (
  id uuid primary key default gen_random_uuid(),
  policy_id uuid not null references policies (id) on delete cascade,
  user_id uuid references users (id) on delete cascade,
  group_id uuid references groups (id) on delete cascade,
  agent_id uuid references agents (id) on delete cascade,
  created timestamptz(3) not null default now(),
  created_by uuid,
  check (num_nonnulls(user_id, group_id, agent_id) = 1),
  unique (policy_id, user_id),
  unique (policy_id, group_id),
  unique (policy_id, agent_id)
);
create index policy_bindings_user on policy_bindings (user_id) where user_id is not null;
create index policy_bindings_group on policy_bindings (group_id) where group_id is not null;
create index policy_bindings_agent on policy_bindings (agent_id) where agent_id is not null;

-- Everybody: whoever gets an account is in it, and stays in it until taken out.
insert into groups (id, name, slug, description)
  values (gen_random_uuid(), 'Hub Members', 'hub-members', 'Everybody who has signed in.');
create function join_hub_members() returns trigger language plpgsql as $$
begin
  insert into group_memberships (group_id, user_id, added_by)
  select g.id, new.id, 'system' from groups g where g.slug = 'hub-members'
  on conflict do nothing;
  return null;
end $$;
create trigger users_join_hub_members after insert on users for each row execute function join_hub_members();
insert into group_memberships (group_id, user_id, added_by)
  select g.id, u.id, 'system' from groups g cross join users u where g.slug = 'hub-members';

insert into policies (id, name, description, scope_type, resource_type, actions, effect, conditions, seeded) values
  (gen_random_uuid(), 'hub-member-read-all', 'Everybody reads what is not private.', 'hub', '*', '{read,list}', 'allow',
    '{"visibility": ["team", "public"]}', true),
  (gen_random_uuid(), 'hub-member-create-projects', 'Everybody creates projects.', 'hub', 'project', '{create}', 'allow',
    '{}', true);
insert into policy_bindings (policy_id, group_id)
  select p.id, g.id from policies p cross join groups g where p.seeded and g.slug = 'hub-members';

-- A project's groups and policy come with it, whichever statement makes it, and follow its slug.
create function make_project_groups(project projects) returns void language plpgsql as $$
declare
  creator uuid := (select id from users where id = project.owner_id);
  members uuid := gen_random_uuid();
  policy uuid := gen_random_uuid();
begin
  insert into groups (id, name, slug, group_type, project_id, owner_id, created_by) values
    (gen_random_uuid(), project.name || ' Agents', 'project:' || project.slug || ':agents', 'project_agents',
      project.id, null, project.created_by),
    (members, project.name || ' Members', 'project:' || project.slug || ':members', 'explicit',
      project.id, creator, project.created_by);
  if creator is not null then
    insert into group_memberships (group_id, user_id, role, added_by) values (members, creator, 'owner', 'system');
  end if;
  insert into policies (id, name, scope_type, scope_id, resource_type, actions, effect, created_by, seeded)
    values (policy, 'project:' || project.slug || ':member-create-agents', 'project', project.id, 'agent',
      '{create,stop_all}', 'allow', project.created_by, true);
  insert into policy_bindings (policy_id, group_id) values (policy, members);
end $$;
create function make_groups_of_project() returns trigger language plpgsql as $$
begin
  perform make_project_groups(new);
  return null;
end $$;
create trigger projects_make_groups after insert on projects for each row execute function make_groups_of_project();
create function rename_groups_of_project() returns trigger language plpgsql as $$
begin
  update groups set slug = 'project:' || new.slug || substr(slug, length('project:' || old.slug) + 1)
   where project_id = new.id and starts_with(slug, 'project:' || old.slug || ':');
  update policies set name = 'project:' || new.slug || substr(name, length('project:' || old.slug) + 1)
   where project_id = new.id and seeded and starts_with(name, 'project:' || old.slug || ':');
  return null;
end $$;
create trigger projects_rename_groups after update of slug on projects for each row
  when (old.slug <> new.slug) execute function rename_groups_of_project();
do $$
declare
  project projects;
begin
  for project in select * from projects loop
    perform make_project_groups(project);
  end loop;
end $$;

-- Replicas keep for a moment what they have read of somebody's rights: whatever changes them is told. What comes or goes
-- with something else (a project's groups, an account's membership) is told with that.
create trigger groups_inserted after insert on groups for each row
  when (pg_trigger_depth() = 0) execute function log_change('group', 'slug', 'group_type');
create trigger groups_deleted after delete on groups for each row
  when (pg_trigger_depth() = 0) execute function log_change('group', 'slug', 'group_type');
create trigger groups_updated after update on groups for each row
  when (pg_trigger_depth() = 0 and to_jsonb(old) - '{updated}'::text[] is distinct from to_jsonb(new) - '{updated}'::text[])
  execute function log_change('group', 'slug', 'group_type');
create trigger group_memberships_inserted after insert on group_memberships for each row
  when (pg_trigger_depth() = 0) execute function log_change('group_membership', 'group_id', 'user_id', 'child_group_id', 'role');
create trigger group_memberships_deleted after delete on group_memberships for each row
  when (pg_trigger_depth() = 0) execute function log_change('group_membership', 'group_id', 'user_id', 'child_group_id', 'role');
create trigger group_memberships_updated after update on group_memberships for each row
  when (pg_trigger_depth() = 0 and to_jsonb(old) is distinct from to_jsonb(new))
  execute function log_change('group_membership', 'group_id', 'user_id', 'child_group_id', 'role');
create trigger policies_inserted after insert on policies for each row
  when (pg_trigger_depth() = 0) execute function log_change('policy', 'name', 'effect');
create trigger policies_deleted after delete on policies for each row
  when (pg_trigger_depth() = 0) execute function log_change('policy', 'name', 'effect');
create trigger policies_updated after update on policies for each row
  when (pg_trigger_depth() = 0 and to_jsonb(old) - '{updated}'::text[] is distinct from to_jsonb(new) - '{updated}'::text[])
  execute function log_change('policy', 'name', 'effect');
create trigger policy_bindings_inserted after insert on policy_bindings for each row
  when (pg_trigger_depth() = 0) execute function log_change('policy_binding', 'policy_id', 'user_id', 'group_id');
create trigger policy_bindings_deleted after delete on policy_bindings for each row
  when (pg_trigger_depth() = 0) execute function log_change('policy_binding', 'policy_id', 'user_id', 'group_id');
create trigger policy_bindings_updated after update on policy_bindings for each row
  when (pg_trigger_depth() = 0 and to_jsonb(old) is distinct from to_jsonb(new))
  execute function log_change('policy_binding', 'policy_id', 'user_id', 'group_id');
