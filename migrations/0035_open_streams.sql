-- compatible: yes
-- How many streams (events, followed logs, terminals) somebody holds open, and at which replica: of those whose replica is
-- gone nothing is left to count. One row for each who has some, so that taking one more is one statement that waits for
-- whoever does the same.

create table open_streams (
  -- A digest: nobody's name.
  whom text primary key,
  -- By the replica's instance id.
  held jsonb not null,
  -- How many the last replica that asked had before, and how many more it was given.
  kept integer not null,
  granted integer not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
