-- +goose Up
-- A key is its customer's own. A replica of the version before, which does not know that
-- yet, cannot store a key: its customers are told to try again, and none is served twice.
ALTER TABLE idempotency_keys ADD COLUMN customer_id text;
UPDATE idempotency_keys k SET customer_id = o.customer_id FROM orders o WHERE o.id = k.order_id;
ALTER TABLE idempotency_keys
    ALTER COLUMN customer_id SET NOT NULL,
    DROP CONSTRAINT idempotency_keys_pkey,
    ADD PRIMARY KEY (customer_id, key);

-- +goose Down
-- Of two customers' equal keys one stays.
DELETE FROM idempotency_keys a USING idempotency_keys b WHERE a.key = b.key AND a.customer_id > b.customer_id;
ALTER TABLE idempotency_keys DROP COLUMN customer_id, ADD PRIMARY KEY (key);
