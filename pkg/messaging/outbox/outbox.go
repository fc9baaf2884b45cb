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
	"encoding/json"
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

// Add writes a message to the outbox, in the caller's transaction: it goes out if
// and only if that commits. Call [Relay.Wake] after the commit.
//
// The key is what order matters for (here the order's id). The order of a key's
// messages is the order of commits only if their writers exclude each other, so
// the caller has locked the key's own row before (SELECT ... FOR UPDATE).
//
// The message is kept as JSON: use strings and booleans as headers, since numbers
// would come out as float64, times and bytes as strings. What AMQP could not carry
// then (a nested table, for one) is refused here: [messaging.ErrInvalid].
func Add(ctx context.Context, tx pgx.Tx, key string, route messaging.Route, m messaging.Message) error {
	encoded, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message %s for the outbox: %w", m.ID, err)
	}
	var kept messaging.Message // as the relay will find it
	if err := json.Unmarshal(encoded, &kept); err != nil {
		return fmt.Errorf("decode message %s for the outbox: %w", m.ID, err)
	}
	if err := kept.Validate(route); err != nil {
		return fmt.Errorf("add message %s to the outbox: %w", m.ID, err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO outbox (key, exchange, route, message) VALUES ($1, $2, $3, $4)`,
		key, route.Exchange, route.Key, encoded)
	if err != nil {
		return fmt.Errorf("add message %s to the outbox: %w", m.ID, err)
	}
	return nil
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
