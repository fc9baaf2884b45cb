-- +goose Up
CREATE TABLE payments (
    id           text        PRIMARY KEY,
    order_id     text        NOT NULL,
    amount_minor bigint      NOT NULL CHECK (amount_minor > 0),
    currency     text        NOT NULL,
    state        text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'captured', 'declined', 'refunded')),
    reason       text        NOT NULL DEFAULT '',  -- why it was declined
    intended_at  timestamptz NOT NULL DEFAULT now(),
    changed_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payments_order ON payments (order_id);

-- Captures and refunds. Rows are never changed or deleted. The primary key allows at most one
-- capture and one refund for each payment.
CREATE TABLE ledger (
    payment_id   text        NOT NULL REFERENCES payments,
    kind         text        NOT NULL CHECK (kind IN ('captured', 'refunded')),
    amount_minor bigint      NOT NULL,
    currency     text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, kind)
);
-- +goose Down
DROP TABLE ledger;
DROP TABLE payments;
