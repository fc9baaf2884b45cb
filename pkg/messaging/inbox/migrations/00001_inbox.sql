-- +goose Up
CREATE TABLE inbox (
    queue      text        NOT NULL,
    message_id text        NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, message_id)
);
CREATE INDEX inbox_seen_at ON inbox (seen_at);
-- +goose Down
DROP TABLE inbox;
