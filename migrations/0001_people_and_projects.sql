-- compatible: yes
-- People, projects, and what a project knows about itself (spec/04 1.2).

create table users (
  id uuid primary key,
  email text not null unique check (email <> '' and email = lower(btrim(email))),
  display_name text not null default '',
  avatar_url text,
  role text not null default 'member' check (role in ('admin', 'member', 'viewer')),
  status text not null default 'active' check (status in ('active', 'suspended')),
  preferences jsonb,
  created timestamptz(3) not null default now(),
  last_login timestamptz(3),
  last_seen timestamptz(3)
);

-- Times are kept to the millisecond throughout: a cursor made of a time must survive the way through a client.
create table projects (
  id uuid primary key,
  name text not null check (name <> ''),
  slug text not null unique check (slug <> ''),
  git_remote text,
  default_runtime_broker_id uuid,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  shared_dirs jsonb not null default '[]',
  visibility text not null default 'private' check (visibility in ('private', 'team', 'public')),
  created_by uuid,
  owner_id uuid,
  created timestamptz(3) not null default now(),
  updated timestamptz(3) not null default now()
);
create index projects_git_remote on projects (git_remote) where git_remote is not null;
create index projects_owner on projects (owner_id);
create index projects_created on projects (created desc, id desc);
create index projects_name on projects (lower(name));
