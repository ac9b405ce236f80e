-- compatible: yes
-- Pages of people, and the runtime brokers that an agent may run on, by index: with ten thousand of them each look read all.
create index users_created on users (created desc, id desc);
create index users_name on users (lower(display_name), id);
create index runtime_brokers_slug on runtime_brokers (slug);
create index runtime_brokers_auto_provide on runtime_brokers (id) where auto_provide;
