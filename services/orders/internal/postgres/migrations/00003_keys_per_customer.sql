-- +goose Up
-- A key belongs to one customer. A replica of the earlier version, which does not know that,
-- cannot store a key: its customers must try again, and no order is placed twice.
ALTER TABLE idempotency_keys ADD COLUMN customer_id text;
UPDATE idempotency_keys k SET customer_id = o.customer_id FROM orders o WHERE o.id = k.order_id;
ALTER TABLE idempotency_keys
    ALTER COLUMN customer_id SET NOT NULL,
    DROP CONSTRAINT idempotency_keys_pkey,
    ADD PRIMARY KEY (customer_id, key);

-- +goose Down
-- If two customers have the same key, one of them is kept.
DELETE FROM idempotency_keys a USING idempotency_keys b WHERE a.key = b.key AND a.customer_id > b.customer_id;
ALTER TABLE idempotency_keys DROP COLUMN customer_id, ADD PRIMARY KEY (key);
