-- compatible: yes
-- The few agents that more than their project's people may read, in the order of lists.
create index agents_visible on agents (created desc, id desc) where visibility <> 'private';
