-- +goose Up
CREATE TABLE recipients (
    customer_id text PRIMARY KEY,
    email       text NOT NULL
);
-- Notifications that were sent. A copy of a notification has the same key.
CREATE TABLE sent (
    channel    text        NOT NULL,
    dedupe_key text        NOT NULL,
    sent_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, dedupe_key)
);
-- +goose Down
DROP TABLE sent, recipients;
