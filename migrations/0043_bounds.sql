-- compatible: yes
-- What grew as long as a hub lived, although nobody had a use for it.

-- What an agent wanted to hear of was kept when it was gone, and looked at with every event.
delete from notification_subscriptions s
 where s.subscriber_type = 'agent' and not exists (select from agents a where a.id = s.subscriber_id);
create function subscriptions_without_agent() returns trigger language plpgsql as $$
begin
  delete from notification_subscriptions s using gone
   where s.subscriber_id = gone.id and s.subscriber_type = 'agent';
  return null;
end $$;
create trigger agents_take_subscriptions after delete on agents referencing old table as gone
  for each statement execute function subscriptions_without_agent();

-- Tokens that count no more, by when that began.
create index access_tokens_over on access_tokens (least(expires_at, revoked_at));

-- Who deletes another project with the same slug says nothing new. What a project that is still there gave up is its own
-- to take back, and so nobody else's word.
delete from former_slugs f using former_slugs later
 where later.slug = f.slug and later.owner_id is not distinct from f.owner_id and later.project_id > f.project_id
   and not exists (select from projects p where p.id in (f.project_id, later.project_id));
create or replace function keep_former_slug() returns trigger language plpgsql as $$
begin
  insert into former_slugs (slug, project_id, owner_id) values (old.slug, old.id, old.owner_id)
  on conflict (slug, project_id) do update set owner_id = excluded.owner_id;
  if tg_op = 'DELETE' then
    delete from former_slugs f
     where f.slug = old.slug and f.project_id <> old.id and f.owner_id is not distinct from old.owner_id
       and not exists (select from projects p where p.id = f.project_id);
  end if;
  return null;
end $$;
