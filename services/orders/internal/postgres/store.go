// Package postgres has the database of orders.
package postgres

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/services/orders/internal/order"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations make the schema.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// Store is orders' database, and an [order.Store].
type Store struct{ *transactional.DB }

// NewStore makes a store.
func NewStore(db *transactional.DB) *Store { return &Store{db} }

// FindByKey returns the order that was placed with a customer's idempotency key: nil if there
// is none, [order.ErrKeyReused] if it was another request.
func (s *Store) FindByKey(ctx context.Context, customerID, key string, hash []byte) (*order.Order, error) {
	var id string
	var known []byte
	err := s.Pool().QueryRow(ctx, `SELECT order_id, request_hash FROM idempotency_keys WHERE customer_id = $1 AND key = $2`,
		customerID, key).Scan(&id, &known)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an idempotency key: %w", err)
	}
	if !bytes.Equal(known, hash) {
		return nil, order.ErrKeyReused
	}
	return s.Find(ctx, id)
}

// PruneKeys deletes at most 10,000 of the idempotency keys that are older than olderThan, and
// returns their number. A later request with such a key makes another order.
func (s *Store) PruneKeys(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := s.Pool().Exec(ctx, `DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1) LIMIT 10000))`, olderThan.Seconds())
	if err != nil {
		return 0, fmt.Errorf("prune the idempotency keys: %w", err)
	}
	return tag.RowsAffected(), nil
}

// errKeyTaken says that another request with the same key was stored first.
var errKeyTaken = errors.New("idempotency key taken")

// Place stores a new order and its messages in one transaction. If another request of the
// customer has used the key in the meantime, it stores nothing and returns that request's
// order, with isNew false.
func (s *Store) Place(ctx context.Context, o *order.Order, messages []order.Outgoing, key string, hash []byte) (stored *order.Order, isNew bool, err error) {
	err = s.Do(ctx, func(tx *transactional.Tx) error {
		items, err := json.Marshal(o.Items)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO orders (id, customer_id, region, tier, status, payment_id, amount_minor, currency, items)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			o.ID, o.CustomerID, o.Region, o.Tier, o.Status, o.PaymentID, o.Total.AmountMinor, o.Total.Currency, items)
		if err != nil {
			return err
		}
		if key != "" {
			// It waits for another transaction with the same key.
			tag, err := tx.Exec(ctx, `INSERT INTO idempotency_keys (customer_id, key, request_hash, order_id)
				VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, o.CustomerID, key, hash, o.ID)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return errKeyTaken
			}
		}
		return s.record(ctx, tx, o, 0, messages)
	})
	if errors.Is(err, errKeyTaken) {
		stored, err := s.FindByKey(ctx, o.CustomerID, key, hash)
		return stored, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("store an order: %w", err)
	}
	return o, true, nil
}

// record stores the history from a position on, and adds the messages to the outbox.
func (s *Store) record(ctx context.Context, tx pgx.Tx, o *order.Order, from int, messages []order.Outgoing) error {
	for i, c := range o.History[from:] {
		_, err := tx.Exec(ctx, `INSERT INTO order_history (order_id, position, status, at, reason) VALUES ($1, $2, $3, $4, $5)`,
			o.ID, from+i, c.Status, c.At, c.Reason)
		if err != nil {
			return fmt.Errorf("write the history: %w", err)
		}
	}
	entries := make([]outbox.Entry, len(messages))
	for i, m := range messages {
		entries[i] = outbox.Entry{Key: o.ID, Route: m.Route, Message: m.Message}
	}
	return outbox.AddAll(ctx, tx, entries)
}

// Change locks an order, calls decide, which changes it, and stores the result with the
// messages that the effect causes, in one transaction. An error of decide rolls it back.
func (s *Store) Change(ctx context.Context, id string, decide func(o *order.Order) (order.Effect, error)) (*order.Order, order.Effect, error) {
	var o *order.Order
	var effect order.Effect
	err := s.Do(ctx, func(tx *transactional.Tx) (err error) {
		o, effect, err = s.change(ctx, tx, id, decide)
		return err
	})
	if err != nil {
		return nil, order.Nothing, fmt.Errorf("change an order: %w", err)
	}
	return o, effect, nil
}

// Settle is Change for an event of a message, in the transaction of its handler.
func (s *Store) Settle(ctx context.Context, tx pgx.Tx, id string, event order.Event, reason string) (*order.Order, order.Effect, error) {
	o, effect, err := s.change(ctx, tx, id, func(o *order.Order) (order.Effect, error) {
		return o.Apply(event, reason, time.Now()), nil
	})
	if err != nil {
		return nil, order.Nothing, fmt.Errorf("settle an order: %w", err)
	}
	return o, effect, nil
}

func (s *Store) change(ctx context.Context, tx pgx.Tx, id string, decide func(o *order.Order) (order.Effect, error)) (*order.Order, order.Effect, error) {
	// The lock also keeps the outbox rows of one order in the order of their commits. It is a
	// separate statement, so that the next one sees what was committed before the lock.
	if order.ValidID(id) {
		if _, err := tx.Exec(ctx, `SELECT FROM orders WHERE id = $1 FOR UPDATE`, id); err != nil {
			return nil, order.Nothing, fmt.Errorf("lock an order: %w", err)
		}
	}
	o, err := find(ctx, tx, id)
	if err != nil {
		return nil, order.Nothing, err
	}
	before := len(o.History)
	effect, err := decide(o)
	if err != nil || effect == order.Nothing {
		return o, order.Nothing, err
	}
	if _, err := tx.Exec(ctx, `UPDATE orders SET status = $2, refund_open = $3 WHERE id = $1`, o.ID, o.Status, o.RefundOpen); err != nil {
		return nil, order.Nothing, err
	}
	messages, err := o.Messages(effect)
	if err != nil {
		return nil, order.Nothing, err
	}
	return o, effect, s.record(ctx, tx, o, before, messages)
}

// Find returns an order, or [order.ErrNotFound].
func (s *Store) Find(ctx context.Context, id string) (*order.Order, error) {
	return find(ctx, s.Pool(), id)
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func find(ctx context.Context, q querier, id string) (*order.Order, error) {
	if !order.ValidID(id) {
		return nil, order.ErrNotFound
	}
	list, err := read(ctx, q, selectOne, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, order.ErrNotFound
	}
	return list[0], nil
}

// List returns the newest orders, of one status or of all, that are older than the order
// before. The empty string is for the first page.
func (s *Store) List(ctx context.Context, status order.Status, before string, limit int) ([]*order.Order, error) {
	if before == "" {
		before = uuid.Max.String()
	}
	if status == "" {
		return read(ctx, s.Pool(), selectPage, before, limit)
	}
	return read(ctx, s.Pool(), selectPageOfStatus, status, before, limit)
}

// Each is one statement, so that an order and its history are consistent. There are two for
// pages: one statement for both would read the orders of all statuses.
const (
	selectOrders = `SELECT id, customer_id, region, tier, status, refund_open, payment_id, amount_minor, currency, items,
		(SELECT json_agg(json_build_object('status', h.status, 'at', h.at, 'reason', h.reason) ORDER BY h.position)
			FROM order_history h WHERE h.order_id = orders.id)
		FROM orders `
	selectOne          = selectOrders + `WHERE id = $1`
	selectPage         = selectOrders + `WHERE id < $1 ORDER BY id DESC LIMIT $2`
	selectPageOfStatus = selectOrders + `WHERE status = $1 AND id < $2 ORDER BY id DESC LIMIT $3`
)

func read(ctx context.Context, q querier, sql string, args ...any) ([]*order.Order, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*order.Order, error) {
		o := &order.Order{}
		err := r.Scan(&o.ID, &o.CustomerID, &o.Region, &o.Tier, &o.Status, &o.RefundOpen, &o.PaymentID,
			&o.Total.AmountMinor, &o.Total.Currency, &o.Items, &o.History)
		for i := range o.History { // also if the session has another time zone
			o.History[i].At = o.History[i].At.UTC()
		}
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	return list, nil
}
