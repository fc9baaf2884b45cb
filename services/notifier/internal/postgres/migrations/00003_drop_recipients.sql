-- +goose Up
-- Nothing wrote to it: a customer's address follows from the id (contract.DefaultAddress).
DROP TABLE recipients;

-- +goose Down
CREATE TABLE recipients (
    customer_id text PRIMARY KEY,
    email       text NOT NULL
);
