-- compatible: yes
-- Programs that get tokens for a person who says so in a browser: a code that a redirect carries to them (RFC 6749 4.1),
-- or one that the person types for a program on another machine (RFC 8628). Codes are kept as hashes.

-- `sign_in_id`: what a code was exchanged for, and what ends when it comes back.
create table login_codes (
  code_hash bytea primary key,
  user_id uuid not null references users (id) on delete cascade,
  -- Of the user when they said yes: whoever signs out everywhere meanwhile has taken it back.
  token_version int not null,
  callback_url text not null,
  sign_in_id uuid,
  created timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null
);
create index login_codes_expiry on login_codes (expires_at);
create index login_codes_user on login_codes (user_id);

create table device_logins (
  device_code_hash bytea primary key,
  user_code_hash bytea not null unique,
  -- What asks, as far as it can be told: shown to whoever is to say yes.
  address text not null,
  program text not null,
  state text not null default 'pending' check (state in ('pending', 'approved', 'denied', 'redeemed')),
  user_id uuid references users (id) on delete cascade,
  token_version int,
  sign_in_id uuid,
  -- How long the program must wait between two questions; longer each time that it does not.
  interval_seconds int not null,
  polled_at timestamptz(3),
  created timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null,
  check ((state in ('approved', 'redeemed')) = (user_id is not null and token_version is not null)),
  check ((state = 'redeemed') = (sign_in_id is not null))
);
create index device_logins_expiry on device_logins (expires_at);
create index device_logins_user on device_logins (user_id) where user_id is not null;

-- Codes that people type are short: whoever types wrong ones may not go on for ever.
create table user_code_tries (
  user_id uuid primary key references users (id) on delete cascade,
  tries int not null,
  since timestamptz(3) not null default now()
);
create index user_code_tries_since on user_code_tries (since);
