-- +goose Up
CREATE INDEX sent_sent_at ON sent (sent_at);
-- +goose Down
DROP INDEX sent_sent_at;
