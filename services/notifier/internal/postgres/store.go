// Package postgres is notifier's own database.
package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/services/notifier/internal/notify"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations make the schema.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// Store is notifier's database.
type Store struct{ pool *pgxpool.Pool }

// NewStore makes a store.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool} }

// Enqueue writes the notes that a message causes, and that the message was seen,
// in one transaction. A message that was seen before causes nothing.
func (s *Store) Enqueue(ctx context.Context, d *messaging.Delivery, notes []notify.Note) (first bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if first, err = inbox.Record(ctx, tx, d.Queue, d.ID); err != nil || !first {
			return err
		}
		for _, n := range notes {
			if err := s.add(ctx, tx, d, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("enqueue notifications: %w", err)
	}
	return first, nil
}

// add puts one note into the outbox, addressed, for the headers exchange.
func (s *Store) add(ctx context.Context, tx pgx.Tx, d *messaging.Delivery, n notify.Note) error {
	m, err := messaging.NewMessage(contract.NotificationType, contract.Notification{
		Recipient: contract.DefaultAddress(n.CustomerID), Template: n.Template, Data: n.Data, DedupeKey: n.DedupeKey,
	})
	if err != nil {
		return err
	}
	m.CorrelationID = d.CorrelationID
	m.Headers = map[string]any{contract.HeaderChannel: n.Channel, contract.HeaderUrgency: n.Urgency}
	return outbox.Add(ctx, tx, n.DedupeKey, messaging.Route{Exchange: contract.Notifications}, m)
}

// WasSent says whether a notification went out on a channel before.
func (s *Store) WasSent(ctx context.Context, channel, dedupeKey string) (bool, error) {
	var sent bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM sent WHERE channel = $1 AND dedupe_key = $2)`, channel, dedupeKey).Scan(&sent)
	if err != nil {
		return false, fmt.Errorf("look up what was sent: %w", err)
	}
	return sent, nil
}

// MarkSent remembers that a notification went out.
func (s *Store) MarkSent(ctx context.Context, channel, dedupeKey string) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO sent (channel, dedupe_key) VALUES ($1, $2) ON CONFLICT DO NOTHING`, channel, dedupeKey)
	if err != nil {
		return fmt.Errorf("remember what was sent: %w", err)
	}
	return nil
}

// PruneSent forgets some of what went out longer ago than this, and says how much.
func (s *Store) PruneSent(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM sent WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM sent WHERE sent_at < now() - make_interval(secs => $1) LIMIT 10000))`, olderThan.Seconds())
	if err != nil {
		return 0, fmt.Errorf("prune what was sent: %w", err)
	}
	return tag.RowsAffected(), nil
}
