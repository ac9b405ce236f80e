-- compatible: yes
-- Who wrote a message outside of this hub, in a chat: a name of the plugin that brought it in, never the id of anybody here.
-- created_by is then the runtime broker that the plugin belongs to.
alter table messages add column outside_sender_id text;
