-- compatible: yes
-- What a list counts beside its page is counted within an index: the columns of its conditions that are not in the order
-- go along in it. Read from the table, a thousand rows are a thousand pages.

create index agents_project_owned on agents (project_id, created desc, id desc) include (owner_id) where deleted_at is null;
drop index agents_project_live;
-- A message's row is written anew at each of its steps, and is in here anew each time as it was before.
create index messages_said_to on messages (agent_id, sender_id, created desc, id desc) include (state);
drop index messages_said;
