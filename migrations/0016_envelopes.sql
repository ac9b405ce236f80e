-- compatible: yes
-- Secrets are written as envelopes once every replica that is registered can open them.

comment on column broker_secrets.secret is 'an envelope: encrypted under a data key, which the first ROOTSTOCK_SECRET or the file of keys wraps';
comment on column agent_kept_values.value is 'an envelope, as broker_secrets.secret';
comment on column idempotency_keys.answer is 'an envelope, as broker_secrets.secret';
