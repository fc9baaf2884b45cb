// Package outbox makes "change the state and tell the others" one step: the
// message is written to a table in the same transaction as the change, and a
// [Relay] publishes it afterwards, with confirms, as often as it takes.
//
// Messages of one key leave in the order in which they were added, one at a time.
// They may leave more than once, always with the same message id.
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
	// Key is what order matters for (an order's id, say), at most 1,000 bytes.
	Key     string
	Route   messaging.Route
	Message messaging.Message
}

// Add writes a message to the outbox, in the caller's transaction: it goes out if
// and only if that commits. Call [Relay.Wake] after the commit, or let package
// transactional do it.
//
// The key is what order matters for (here the order's id), at most 1,000 bytes. The order
// of a key's messages is the order of commits only if their writers exclude each other, so
// the caller has locked the key's own row before (SELECT ... FOR UPDATE).
//
// The message goes out as it is, every header with its type; an int becomes an int64, as
// by a [messaging.Publisher]. What AMQP could not carry or PostgreSQL not keep, such as
// text with a zero byte, is a [messaging.ErrInvalid], before any statement: the caller's
// transaction can go on.
func Add(ctx context.Context, tx pgx.Tx, key string, route messaging.Route, m messaging.Message) error {
	return AddAll(ctx, tx, []Entry{{key, route, m}})
}

// AddAll is [Add] for many messages, in one statement. They go out in their order here as
// far as they have one key. When one of them is a [messaging.ErrInvalid] none is written;
// the error has its id.
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
	// Ids are given in the order of the rows that are inserted, which ORDER BY decides.
	_, err := tx.Exec(ctx, `INSERT INTO outbox (key, exchange, route, message)
		SELECT key, exchange, route, message::jsonb
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS entry (key, exchange, route, message, position)
		ORDER BY position`, keys, exchanges, routes, messages)
	if err != nil {
		return fmt.Errorf("add %d messages to the outbox, from %s on: %w", len(entries), entries[0].Message.ID, err)
	}
	return nil
}

// check refuses what would stop in the table or on its way out, and encodes the rest.
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

// Count says how many messages wait, and how many of them are held back: refused, to
// be tried again later, or sent and not confirmed yet. What waits behind those is not
// in the second number.
func Count(ctx context.Context, pool *pgxpool.Pool) (waiting, heldBack int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE not_before IS NOT NULL) FROM outbox`).Scan(&waiting, &heldBack)
	if err != nil {
		return 0, 0, fmt.Errorf("count the outbox: %w", err)
	}
	return waiting, heldBack, nil
}
