-- compatible: yes
-- Made anew to be the newest index of its table: of two that look alike the planner takes the newer, and as long as it
-- knows nothing of the table all of them do. This one has the message of an agent that is on its way; the others that
-- begin with the agent have all that was ever said to it.
create unique index messages_in_flight on messages (agent_id) where state = 'delivering';
drop index messages_one_in_flight;
alter index messages_in_flight rename to messages_one_in_flight;
