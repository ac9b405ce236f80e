-- compatible: yes
-- What replicas that cannot reach each other say about terminals (design section 8). Unlogged: after a crash of the server
-- it is gone, the ends notice the gap, and viewers come back.

create unlogged table stream_frames (
  id bigint generated always as identity (cache 1),
  to_replica uuid not null,
  from_replica uuid not null,
  stream_id uuid not null,
  -- Per stream and direction, from 0: a gap means that something was lost.
  seq int not null,
  kind text not null,
  body bytea not null,
  created timestamptz(3) not null default now(),
  -- The one index: a second one on the number alone would tempt the planner to walk through everybody's frames.
  primary key (to_replica, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
