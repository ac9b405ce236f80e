-- compatible: yes
-- What a decision needs of a policy, as the JSON that it is told in (PolicyFields in packages/store/src/queries/accessFacts.ts):
-- made when the policy is written, which is seldom. To make it for each decision took a third of the time that reading
-- somebody's rights takes. Immutable for these types: nothing in it hangs on a session's settings. Replicas of two versions
-- read it at once: what is to look different gets a column of its own.
create function policy_facts(
  id uuid, name text, scope_type text, scope_id uuid, resource_type text, resource_id uuid, actions text[], effect text,
  priority int, conditions jsonb
) returns text language sql immutable as $$
  select json_build_array(id, name, scope_type, scope_id, resource_type, resource_id, actions, effect, priority, conditions)::text
$$;
alter table policies add column facts text not null generated always as (policy_facts(
  id, name, scope_type, scope_id, resource_type, resource_id, actions, effect, priority, conditions)) stored;

-- The way from a group up to those that contain it, and from a group to its policies, without a look at the rows.
drop index group_memberships_child;
create index group_memberships_child on group_memberships (child_group_id) include (group_id)
  where child_group_id is not null;
drop index policy_bindings_group;
create index policy_bindings_group on policy_bindings (group_id) include (policy_id) where group_id is not null;
