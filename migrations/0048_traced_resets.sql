-- compatible: yes
-- The trace that new tokens for all belong to: each agent's operation goes on in it, on whichever replica begins it.
alter table auth_resets add column traceparent text;
