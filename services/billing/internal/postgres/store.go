// Package postgres has the database of billing.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/services/billing/internal/charge"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations make the schema.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// Store is billing's database, and a [charge.Ledger].
type Store struct{ *transactional.DB }

// NewStore makes a store.
func NewStore(db *transactional.DB) *Store { return &Store{db} }

// Seen says whether the message was settled.
func (s *Store) Seen(ctx context.Context, r charge.Received) (bool, error) {
	return inbox.Seen(ctx, s.Pool(), r.Queue, r.MessageID)
}

// Intend stores the payment as pending if its id is new, and returns what the ledger has under
// the id.
func (s *Store) Intend(ctx context.Context, p charge.Payment) (charge.Payment, error) {
	_, err := s.Pool().Exec(ctx, `INSERT INTO payments (id, order_id, amount_minor, currency) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO NOTHING`, p.ID, p.OrderID, p.Amount.AmountMinor, p.Amount.Currency)
	if err != nil {
		return charge.Payment{}, fmt.Errorf("write the intent: %w", err)
	}
	p, _, err = s.Find(ctx, p.ID) // it is found, since payments are never deleted
	return p, err
}

// Find returns a payment; found is false if the id is unknown.
func (s *Store) Find(ctx context.Context, paymentID string) (p charge.Payment, found bool, err error) {
	err = s.Pool().QueryRow(ctx, `SELECT id, order_id, amount_minor, currency, state FROM payments WHERE id = $1`, paymentID).
		Scan(&p.ID, &p.OrderID, &p.Amount.AmountMinor, &p.Amount.Currency, &p.State)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, false, nil
	case err != nil:
		return p, false, fmt.Errorf("find the payment: %w", err)
	}
	return p, true, nil
}

// Settle stores in one transaction that the message was handled (inbox), the payment's new
// state, the entry in the ledger, and the event in the outbox. changed is false if the message
// was settled before or the outcome changes nothing; then there is no event.
func (s *Store) Settle(ctx context.Context, settlement charge.Settlement) (changed bool, err error) {
	_, err = s.Once(ctx, settlement.Received.Queue, settlement.Received.MessageID, func(tx *transactional.Tx) (err error) {
		changed, err = settle(ctx, tx, settlement)
		return err
	})
	if err != nil {
		return false, err
	}
	return changed, nil
}

// settle locks the payment, so that two messages about it are handled one after the other, and
// their events are sent in the same order.
func settle(ctx context.Context, tx pgx.Tx, s charge.Settlement) (changed bool, err error) {
	var state charge.State
	var orderID string
	err = tx.QueryRow(ctx, `SELECT state, order_id FROM payments WHERE id = $1 FOR UPDATE`, s.PaymentID).Scan(&state, &orderID)
	if err != nil {
		return false, fmt.Errorf("lock the payment: %w", err)
	}
	next, err := state.Next(s.Outcome)
	if err != nil || next == state {
		return false, err
	}
	_, err = tx.Exec(ctx, `UPDATE payments SET state = $2, reason = $3, changed_at = now() WHERE id = $1`, s.PaymentID, next, s.Reason)
	if err != nil {
		return false, fmt.Errorf("update the payment: %w", err)
	}
	if next == charge.Captured || next == charge.Refunded {
		_, err = tx.Exec(ctx, `INSERT INTO ledger (payment_id, kind, amount_minor, currency)
			SELECT id, state, amount_minor, currency FROM payments WHERE id = $1`, s.PaymentID)
		if err != nil {
			return false, fmt.Errorf("write the ledger: %w", err)
		}
	}
	if err := outbox.Add(ctx, tx, orderID, s.Route, s.Event); err != nil {
		return false, err
	}
	return true, nil
}
