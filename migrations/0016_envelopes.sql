-- compatible: no
-- Secrets are written as envelopes from here on, which code that does not know them cannot open: beside it, it would answer
-- 500 to a repeated call and refuse runtime brokers that registered at a newer replica.

comment on column broker_secrets.secret is 'an envelope: encrypted under a data key, which the first ROOTSTOCK_SECRET or the file of keys wraps';
comment on column agent_kept_values.value is 'an envelope, as broker_secrets.secret';
comment on column idempotency_keys.answer is 'an envelope, as broker_secrets.secret';
