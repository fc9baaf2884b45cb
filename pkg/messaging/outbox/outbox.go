// Package outbox makes a change in the database and the message about it one step: the
// message is written to a table in the transaction of the change, and a [Relay] publishes
// it afterwards, again and again until the broker has confirmed it.
//
// Messages with the same key are published one at a time, in the order in which they were
// added. A message may be published more than once, always with the same message id.
package outbox

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/orderflow/pkg/messaging"
)

//go:embed migrations/*.sql
var files embed.FS

// VersionTable is where the migrations keep their version.
const VersionTable = "outbox_version"

// Migrations are goose migrations that make the table outbox.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// maxKey is how many bytes a key may have: it is in an index.
const maxKey = 1000

// Entry is a message for the outbox.
type Entry struct {
	// Key is for example an order's id: messages with the same key keep their order. At
	// most 1,000 bytes.
	Key     string
	Route   messaging.Route
	Message messaging.Message
}

// Add writes a message to the outbox, in the caller's transaction: it is published if
// and only if that commits. Call [Relay.Wake] after the commit, or let package
// transactional do it.
//
// Messages with the same key keep their order; a key is for example an order's id, at most
// 1,000 bytes. This order is that of the commits only if no two transactions write messages
// with the same key at the same time. So lock the row that the key stands for before
// (SELECT ... FOR UPDATE).
//
// The message is published as it is, every header with its type; an int becomes an int64,
// as with a [messaging.Publisher]. A message that AMQP cannot carry or PostgreSQL cannot
// store, such as text with a zero byte, is a [messaging.ErrInvalid]. No statement has been
// executed then, so the caller's transaction can go on.
func Add(ctx context.Context, tx pgx.Tx, key string, route messaging.Route, m messaging.Message) error {
	return AddAll(ctx, tx, []Entry{{key, route, m}})
}

// AddAll is [Add] for many messages, in one statement. Entries with the same key are
// published in the order that they have here. When one of them is a [messaging.ErrInvalid]
// none is written; the error has its id.
func AddAll(ctx context.Context, tx pgx.Tx, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var keys, exchanges, routes, messages []string
	for _, e := range entries {
		encoded, err := check(e.Key, e.Route, e.Message)
		if err != nil {
			return fmt.Errorf("add message %.40q to the outbox: %w", e.Message.ID, err)
		}
		keys, exchanges = append(keys, e.Key), append(exchanges, e.Route.Exchange)
		routes, messages = append(routes, e.Route.Key), append(messages, string(encoded))
	}
	// Rows get their ids in the order in which they are inserted: that of ORDER BY.
	_, err := tx.Exec(ctx, `INSERT INTO outbox (key, exchange, route, message)
		SELECT key, exchange, route, message::jsonb
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS entry (key, exchange, route, message, position)
		ORDER BY position`, keys, exchanges, routes, messages)
	if err != nil {
		return fmt.Errorf("add %d messages to the outbox, from %s on: %w", len(entries), entries[0].Message.ID, err)
	}
	return nil
}

// check encodes a message. It refuses one that could not be stored or published.
func check(key string, route messaging.Route, m messaging.Message) ([]byte, error) {
	if err := m.Validate(route); err != nil {
		return nil, err
	}
	for _, f := range [...]struct{ name, value string }{{"key", key}, {"Route.Exchange", route.Exchange}, {"Route.Key", route.Key}} {
		if err := checkText(f.name, f.value); err != nil {
			return nil, err
		}
	}
	if len(key) > maxKey {
		return nil, fmt.Errorf("%w: key: has %d bytes, at most %d can be kept", messaging.ErrInvalid, len(key), maxKey)
	}
	return encode(m)
}

// Count says how many messages wait, and how many of them are held back: those that were
// refused and will be tried again later, and those that were sent and are not confirmed
// yet. Messages that wait only because an earlier one with the same key is held back are
// not in the second number.
func Count(ctx context.Context, pool *pgxpool.Pool) (waiting, heldBack int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE not_before IS NOT NULL) FROM outbox`).Scan(&waiting, &heldBack)
	if err != nil {
		return 0, 0, fmt.Errorf("count the outbox: %w", err)
	}
	return waiting, heldBack, nil
}
