-- +goose Up
CREATE TABLE orders (
    id           uuid        PRIMARY KEY,  -- version 7: sorts by time
    customer_id  text        NOT NULL,
    region       text        NOT NULL,
    tier         text        NOT NULL,
    status       text        NOT NULL,
    refund_open  boolean     NOT NULL DEFAULT false,
    payment_id   uuid        NOT NULL UNIQUE,
    amount_minor bigint      NOT NULL,
    currency     text        NOT NULL,
    items        jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_status ON orders (status, id);
CREATE TABLE order_history (
    order_id uuid        NOT NULL REFERENCES orders,
    position int         NOT NULL,
    status   text        NOT NULL,
    at       timestamptz NOT NULL,
    reason   text        NOT NULL DEFAULT '',
    PRIMARY KEY (order_id, position)
);
CREATE TABLE idempotency_keys (
    key          text        PRIMARY KEY,
    request_hash bytea       NOT NULL,
    order_id     uuid        NOT NULL REFERENCES orders,
    created_at   timestamptz NOT NULL DEFAULT now()
);
-- +goose Down
DROP TABLE idempotency_keys, order_history, orders;
