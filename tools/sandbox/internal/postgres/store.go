// Package postgres stores everything that the sandbox received.
package postgres

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations make the schema.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// Errors of the store.
var (
	// ErrConflict says that a key was used before for another request.
	ErrConflict = errors.New("the idempotency key was used for another request")
	// ErrNoCapture says that there is nothing to refund.
	ErrNoCapture = errors.New("there is no such capture")
)

// Amount is money in its smallest unit.
type Amount struct {
	AmountMinor int64  `json:"amount_minor"`
	Currency    string `json:"currency"`
}

// Movement is a capture or a refund.
type Movement struct {
	Key       string    `json:"idempotency_key"`
	PaymentID string    `json:"payment_id"`
	OrderID   string    `json:"order_id"`
	Amount    Amount    `json:"amount"`
	At        time.Time `json:"at"`
}

// Mail is a received mail.
type Mail struct {
	ID        int64     `json:"id"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	Subject   string    `json:"subject"`
	Text      string    `json:"text"`
	DedupeKey string    `json:"dedupe_key"`
	At        time.Time `json:"at"`
}

// Webhook is a received webhook.
type Webhook struct {
	ID        int64           `json:"id"`
	DedupeKey string          `json:"dedupe_key"`
	OrderID   string          `json:"order_id"`
	Body      json.RawMessage `json:"body"`
	At        time.Time       `json:"at"`
}

// Store is the sandbox's database.
type Store struct{ pool *pgxpool.Pool }

// NewStore makes a store.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool} }

// CountAttempt counts the calls with a key, and returns the number of this one.
func (s *Store) CountAttempt(ctx context.Context, key string) (int, error) {
	var n int
	err := s.pool.QueryRow(ctx, `INSERT INTO attempts VALUES ($1, 1)
		ON CONFLICT (idempotency_key) DO UPDATE SET count = attempts.count + 1 RETURNING count`, key).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count an attempt: %w", err)
	}
	return n, nil
}

// Capture stores one capture for each payment id. Later calls return the first capture.
func (s *Store) Capture(ctx context.Context, m Movement) (stored Movement, isNew bool, err error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO captures (payment_id, order_id, amount_minor, currency)
		VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, m.PaymentID, m.OrderID, m.Amount.AmountMinor, m.Amount.Currency)
	if err != nil {
		return stored, false, fmt.Errorf("capture: %w", err)
	}
	stored, err = s.FindCapture(ctx, m.PaymentID)
	if err == nil && (stored.OrderID != m.OrderID || stored.Amount != m.Amount) {
		err = ErrConflict
	}
	return stored, tag.RowsAffected() == 1, err
}

// FindCapture returns a payment's capture, or [ErrNoCapture].
func (s *Store) FindCapture(ctx context.Context, paymentID string) (Movement, error) {
	found, err := s.movements(ctx, `SELECT payment_id, payment_id, order_id, amount_minor, currency, at FROM captures WHERE payment_id = $1`, paymentID)
	if err != nil {
		return Movement{}, err
	}
	if len(found) == 0 {
		return Movement{}, ErrNoCapture
	}
	return found[0], nil
}

// Refund stores one refund for each idempotency key. Later calls return the first refund.
func (s *Store) Refund(ctx context.Context, m Movement) (stored Movement, isNew bool, err error) {
	if _, err := s.FindCapture(ctx, m.PaymentID); err != nil {
		return stored, false, err
	}
	tag, err := s.pool.Exec(ctx, `INSERT INTO refunds (idempotency_key, payment_id, order_id, amount_minor, currency)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, m.Key, m.PaymentID, m.OrderID, m.Amount.AmountMinor, m.Amount.Currency)
	if err != nil {
		return stored, false, fmt.Errorf("refund: %w", err)
	}
	found, err := s.movements(ctx, `SELECT idempotency_key, payment_id, order_id, amount_minor, currency, at FROM refunds WHERE idempotency_key = $1`, m.Key)
	if err != nil {
		return stored, false, err
	}
	stored = found[0]
	if stored.PaymentID != m.PaymentID || stored.OrderID != m.OrderID || stored.Amount != m.Amount {
		return stored, false, ErrConflict
	}
	return stored, tag.RowsAffected() == 1, nil
}

// Captures lists the newest captures, of one order or of all, and counts them.
func (s *Store) Captures(ctx context.Context, orderID string, limit int) ([]Movement, int64, error) {
	where, args := having("order_id", orderID)
	list, err := s.movements(ctx, `SELECT payment_id, payment_id, order_id, amount_minor, currency, at FROM captures`+
		where+` ORDER BY at DESC LIMIT `+strconv.Itoa(limit), args...)
	if err != nil {
		return nil, 0, err
	}
	total, err := s.count(ctx, `SELECT count(*) FROM captures`+where, args...)
	return list, total, err
}

// Refunds lists the newest refunds, of one order or of all, and counts them.
func (s *Store) Refunds(ctx context.Context, orderID string, limit int) ([]Movement, int64, error) {
	where, args := having("order_id", orderID)
	list, err := s.movements(ctx, `SELECT idempotency_key, payment_id, order_id, amount_minor, currency, at FROM refunds`+
		where+` ORDER BY at DESC LIMIT `+strconv.Itoa(limit), args...)
	if err != nil {
		return nil, 0, err
	}
	total, err := s.count(ctx, `SELECT count(*) FROM refunds`+where, args...)
	return list, total, err
}

// having is a condition on a column, or none for the empty value. One condition for both
// ("$1 = ” OR ...") would keep PostgreSQL from using the column's index.
func having(column, value string) (where string, args []any) {
	if value == "" {
		return "", nil
	}
	return " WHERE " + column + " = $1", []any{value}
}

func (s *Store) movements(ctx context.Context, sql string, args ...any) ([]Movement, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read movements: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Movement, error) {
		var m Movement
		err := r.Scan(&m.Key, &m.PaymentID, &m.OrderID, &m.Amount.AmountMinor, &m.Amount.Currency, &m.At)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read movements: %w", err)
	}
	return list, nil
}

func (s *Store) count(ctx context.Context, sql string, args ...any) (int64, error) {
	var n int64
	if err := s.pool.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// AddMail stores a mail.
func (s *Store) AddMail(ctx context.Context, m Mail) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO mails (sender, recipient, subject, body, dedupe_key) VALUES ($1, $2, $3, $4, $5)`,
		m.From, m.To, m.Subject, m.Text, m.DedupeKey)
	if err != nil {
		return fmt.Errorf("store a mail: %w", err)
	}
	return nil
}

// Mails lists the newest mails to one address, or to all.
func (s *Store) Mails(ctx context.Context, to string, limit int) ([]Mail, error) {
	where, args := having("recipient", to)
	rows, err := s.pool.Query(ctx, `SELECT id, sender, recipient, subject, body, dedupe_key, at FROM mails`+
		where+` ORDER BY id DESC LIMIT `+strconv.Itoa(limit), args...)
	if err != nil {
		return nil, fmt.Errorf("read mails: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Mail])
}

// AddWebhook stores a webhook.
func (s *Store) AddWebhook(ctx context.Context, w Webhook) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO webhooks (dedupe_key, order_id, body) VALUES ($1, $2, $3)`, w.DedupeKey, w.OrderID, w.Body)
	if err != nil {
		return fmt.Errorf("store a webhook: %w", err)
	}
	return nil
}

// Webhooks lists the newest webhooks about one order, or about all.
func (s *Store) Webhooks(ctx context.Context, orderID string, limit int) ([]Webhook, error) {
	where, args := having("order_id", orderID)
	rows, err := s.pool.Query(ctx, `SELECT id, dedupe_key, order_id, body, at FROM webhooks`+
		where+` ORDER BY id DESC LIMIT `+strconv.Itoa(limit), args...)
	if err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Webhook])
}
