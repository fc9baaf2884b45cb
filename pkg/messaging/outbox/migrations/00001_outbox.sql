-- +goose Up
CREATE TABLE outbox (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        text        NOT NULL,  -- messages of one key go out in the order of their ids
    exchange   text        NOT NULL,
    route      text        NOT NULL,
    message    jsonb       NOT NULL,
    added_at   timestamptz NOT NULL DEFAULT now(),
    attempts   int         NOT NULL DEFAULT 0,
    not_before timestamptz,           -- set while a refusal or a late confirm holds the row, and its key, back
    last_error text
);
CREATE INDEX outbox_held_back ON outbox (key, id) WHERE not_before IS NOT NULL;
-- +goose Down
DROP TABLE outbox;
