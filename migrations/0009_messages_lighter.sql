-- compatible: yes
-- What a message costs on its way (design section 11): fewer index entries for each of its steps, and no look-ups by
-- foreign keys, which the statement that stores it makes for a whole batch at once.

alter table messages
  add column accepted_by uuid,
  add column claimed_at timestamptz(3),
  -- Whether what goes beside the text is worth trimming later.
  add column bulky boolean not null default false;
update messages set bulky = octet_length(envelope::text) > 512;
-- Who delivered a message stays written on it.
do $$
declare
  it text;
begin
  for it in select conname from pg_constraint where conrelid = 'messages'::regclass
      and (contype = 'f' or pg_get_constraintdef(oid) like '%claim_session%') loop
    execute format('alter table messages drop constraint %I', it);
  end loop;
end $$;
alter table messages add constraint messages_claim check
  (state is distinct from 'delivering' or (claimed_by is not null and claim_session is not null));

-- Each step of a message (pending, delivering, delivered) adds to the indexes that its state puts it in, and to none else.
drop index messages_undelivered, messages_undelivered_by_runtime_broker, messages_undelivered_age, messages_delivering,
  messages_trimmable, messages_recipient, messages_project, messages_sender;
create index messages_pending on messages (agent_id, seq) where state = 'pending';
create index messages_pending_at on messages (runtime_broker_id, created) where state = 'pending';
create index messages_delivering on messages (claimed_by, runtime_broker_id) where state = 'delivering';
create index messages_trimmable on messages (dispatched_at) where bulky;
-- A person's messages, and those of a project that no agent's row leads to. An agent's are found by the agent.
create index messages_to_person on messages (recipient_id, created desc, id desc) where state is null;
create index messages_of_project on messages (project_id) where agent_id is null;

-- In place of the foreign keys. A message is stored while its agent's row is locked, and so is that of its project.
create function messages_without_agent() returns trigger language plpgsql as $$
begin
  update messages m set agent_id = null,
      error = case when m.state in ('pending', 'delivering') then 'the agent was deleted' else m.error end,
      state = case when m.state in ('pending', 'delivering') then 'failed' else m.state end
    from gone where m.agent_id = gone.id;
  return null;
end $$;
create trigger agents_leave_messages after delete on agents referencing old table as gone
  for each statement execute function messages_without_agent();

create function messages_without_project() returns trigger language plpgsql as $$
begin
  -- Its agents went before it, and left their messages without an agent.
  delete from messages m using gone where m.project_id = gone.id and m.agent_id is null;
  return null;
end $$;
create trigger projects_take_messages after delete on projects referencing old table as gone
  for each statement execute function messages_without_project();
