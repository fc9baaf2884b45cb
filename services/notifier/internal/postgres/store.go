// Package postgres has the database of notifier.
package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/services/notifier/internal/notify"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations make the schema.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// Store is notifier's database.
type Store struct{ *transactional.DB }

// NewStore makes a store.
func NewStore(db *transactional.DB) *Store { return &Store{db} }

// Enqueue adds the notes that a message causes to the outbox, in the transaction of its
// handler.
func (s *Store) Enqueue(ctx context.Context, tx pgx.Tx, d *messaging.Delivery, notes []notify.Note) error {
	entries := make([]outbox.Entry, len(notes))
	for i, n := range notes {
		m, err := message(n)
		if err != nil {
			return fmt.Errorf("enqueue notifications: %w", err)
		}
		m.CorrelationID = d.CorrelationID
		entries[i] = outbox.Entry{Key: n.DedupeKey, Route: messaging.Route{Exchange: contract.Notifications}, Message: m}
	}
	if err := outbox.AddAll(ctx, tx, entries); err != nil {
		return fmt.Errorf("enqueue notifications: %w", err)
	}
	return nil
}

// message makes the message of a note, with an address and the headers of its route.
func message(n notify.Note) (messaging.Message, error) {
	m, err := messaging.NewMessage(contract.Notification, contract.NotificationBody{
		Recipient: contract.DefaultAddress(n.CustomerID), Template: n.Template, Data: n.Data, DedupeKey: n.DedupeKey,
	})
	m.Headers = map[string]any{contract.HeaderChannel: n.Channel, contract.HeaderUrgency: n.Urgency}
	return m, err
}

// WasSent says whether a notification was sent by a channel before.
func (s *Store) WasSent(ctx context.Context, channel, dedupeKey string) (bool, error) {
	var sent bool
	err := s.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM sent WHERE channel = $1 AND dedupe_key = $2)`, channel, dedupeKey).Scan(&sent)
	if err != nil {
		return false, fmt.Errorf("look up a sent notification: %w", err)
	}
	return sent, nil
}

// MarkSent stores that a notification was sent.
func (s *Store) MarkSent(ctx context.Context, channel, dedupeKey string) error {
	_, err := s.Pool().Exec(ctx, `INSERT INTO sent (channel, dedupe_key) VALUES ($1, $2) ON CONFLICT DO NOTHING`, channel, dedupeKey)
	if err != nil {
		return fmt.Errorf("store a sent notification: %w", err)
	}
	return nil
}

// PruneSent deletes at most 10,000 rows of notifications that were sent longer than olderThan
// ago, and returns their number.
func (s *Store) PruneSent(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := s.Pool().Exec(ctx, `DELETE FROM sent WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM sent WHERE sent_at < now() - make_interval(secs => $1) LIMIT 10000))`, olderThan.Seconds())
	if err != nil {
		return 0, fmt.Errorf("prune the sent notifications: %w", err)
	}
	return tag.RowsAffected(), nil
}
