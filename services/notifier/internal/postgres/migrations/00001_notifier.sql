-- +goose Up
CREATE TABLE recipients (
    customer_id text PRIMARY KEY,
    email       text NOT NULL
);
-- What was sent. A second copy of a notification finds its key here.
CREATE TABLE sent (
    channel    text        NOT NULL,
    dedupe_key text        NOT NULL,
    sent_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, dedupe_key)
);
-- +goose Down
DROP TABLE sent, recipients;
