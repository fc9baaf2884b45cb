// Package postgres is notifier's own database.
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

// Enqueue writes the notes that a message causes, in the transaction of its handler.
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

// message is a note with an address, for the headers exchange.
func message(n notify.Note) (messaging.Message, error) {
	m, err := messaging.NewMessage(contract.Notification, contract.NotificationBody{
		Recipient: contract.DefaultAddress(n.CustomerID), Template: n.Template, Data: n.Data, DedupeKey: n.DedupeKey,
	})
	m.Headers = map[string]any{contract.HeaderChannel: n.Channel, contract.HeaderUrgency: n.Urgency}
	return m, err
}

// WasSent says whether a notification went out on a channel before.
func (s *Store) WasSent(ctx context.Context, channel, dedupeKey string) (bool, error) {
	var sent bool
	err := s.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM sent WHERE channel = $1 AND dedupe_key = $2)`, channel, dedupeKey).Scan(&sent)
	if err != nil {
		return false, fmt.Errorf("look up what was sent: %w", err)
	}
	return sent, nil
}

// MarkSent remembers that a notification went out.
func (s *Store) MarkSent(ctx context.Context, channel, dedupeKey string) error {
	_, err := s.Pool().Exec(ctx, `INSERT INTO sent (channel, dedupe_key) VALUES ($1, $2) ON CONFLICT DO NOTHING`, channel, dedupeKey)
	if err != nil {
		return fmt.Errorf("remember what was sent: %w", err)
	}
	return nil
}

// PruneSent forgets some of what went out longer ago than this, and says how much.
func (s *Store) PruneSent(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := s.Pool().Exec(ctx, `DELETE FROM sent WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM sent WHERE sent_at < now() - make_interval(secs => $1) LIMIT 10000))`, olderThan.Seconds())
	if err != nil {
		return 0, fmt.Errorf("prune what was sent: %w", err)
	}
	return tag.RowsAffected(), nil
}
