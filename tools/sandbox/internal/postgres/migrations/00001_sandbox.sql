-- +goose Up
-- The number of calls with each key, so that tok_flaky_N also counts over restarts.
CREATE TABLE attempts (
    idempotency_key text PRIMARY KEY,
    count           int NOT NULL
);
CREATE TABLE captures (
    payment_id   text PRIMARY KEY,
    order_id     text NOT NULL,
    amount_minor bigint NOT NULL,
    currency     text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX captures_order ON captures (order_id);
CREATE TABLE refunds (
    idempotency_key text PRIMARY KEY,
    payment_id      text NOT NULL REFERENCES captures,
    order_id        text NOT NULL,
    amount_minor    bigint NOT NULL,
    currency        text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refunds_order ON refunds (order_id);
CREATE TABLE mails (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender     text NOT NULL,
    recipient  text NOT NULL,
    subject    text NOT NULL,
    body       text NOT NULL,
    dedupe_key text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mails_recipient ON mails (recipient);
CREATE TABLE webhooks (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedupe_key text  NOT NULL,
    order_id   text  NOT NULL,
    body       jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_order ON webhooks (order_id);
-- +goose Down
DROP TABLE webhooks, mails, refunds, captures, attempts;
