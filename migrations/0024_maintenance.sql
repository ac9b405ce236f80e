-- compatible: yes
-- Whether the hub is closed for maintenance (spec/03 5.10): one row, so that every replica says the same.

create table maintenance (
  -- One row, for ever.
  id uuid primary key default '00000000-0000-0000-0000-000000000000'
    check (id = '00000000-0000-0000-0000-000000000000'),
  enabled boolean not null default false,
  -- What people are told; empty: the usual words.
  message text not null default '' check (length(message) <= 1000)
);
insert into maintenance default values;

create trigger maintenance_updated after update on maintenance for each row
  when (old is distinct from new) execute function log_change('maintenance', 'enabled');
create trigger maintenance_audited after update on maintenance for each row
  when (old is distinct from new)
  execute function audit_change('maintenance_changed', 'hub', 'id', '', '', 'enabled', 'message');
