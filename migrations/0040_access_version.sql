-- compatible: yes
-- Groups, how they are nested, policies, and what these are bound to, as of a change: whoever has read them under this version
-- need not read them again (packages/hub/src/auth/access/rules.ts). Random, not counted: a server that was put back to
-- yesterday must not come by a version that a replica remembers of today.
create table access_version (
  one boolean primary key default true check (one),
  version uuid not null default gen_random_uuid()
);
insert into access_version default values;

create function change_access_version() returns trigger language plpgsql as $$
begin
  -- Once for each transaction: of the rows that a deleted project takes along each fires.
  update access_version set version = gen_random_uuid() where xmin <> pg_current_xact_id()::xid;
  return null;
end $$;

-- At the end of the transaction: the version's row is the last that it locks, so that nobody who waits for it holds what
-- somebody before it waits for. Groups that are new are nobody's yet, nor are policies that are bound to nothing; a
-- delegation to a group needs no binding.
create constraint trigger groups_versioned after update or delete on groups
  deferrable initially deferred for each row execute function change_access_version();
create constraint trigger policies_versioned after update or delete on policies
  deferrable initially deferred for each row execute function change_access_version();
create constraint trigger policies_versioned_insert after insert on policies
  deferrable initially deferred for each row when (new.delegated_from_group is not null)
  execute function change_access_version();
create constraint trigger policy_bindings_versioned after insert or update or delete on policy_bindings
  deferrable initially deferred for each row execute function change_access_version();
create constraint trigger group_memberships_versioned_insert after insert on group_memberships
  deferrable initially deferred for each row when (new.child_group_id is not null) execute function change_access_version();
create constraint trigger group_memberships_versioned_update after update on group_memberships
  deferrable initially deferred for each row when (old.child_group_id is not null or new.child_group_id is not null)
  execute function change_access_version();
create constraint trigger group_memberships_versioned_delete after delete on group_memberships
  deferrable initially deferred for each row when (old.child_group_id is not null) execute function change_access_version();
