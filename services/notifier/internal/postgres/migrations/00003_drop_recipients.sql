-- +goose Up
-- It was not used: a customer's address is made from the id (contract.DefaultAddress).
DROP TABLE recipients;

-- +goose Down
CREATE TABLE recipients (
    customer_id text PRIMARY KEY,
    email       text NOT NULL
);
