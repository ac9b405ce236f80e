-- compatible: yes
-- What is left of budgets that replicas share. Worth nothing after a crash, so nothing of it is logged ahead: a taking
-- costs no flush. Rows are changed in their place; the one index knows the key alone.

create unlogged table rate_buckets (
  key text primary key,
  -- When it is full again if nobody takes anything: full as long as this is over.
  full_at timestamptz not null,
  -- What the last one who asked was given.
  granted float8 not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
