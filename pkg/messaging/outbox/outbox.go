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
	"errors"
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
// would come out as float64, and times and bytes as strings.
func Add(ctx context.Context, tx pgx.Tx, key string, route messaging.Route, m messaging.Message) error {
	if m.ID == "" {
		return errors.New("outbox: message without an id")
	}
	if len(route.Exchange) > 255 || len(route.Key) > 255 {
		return fmt.Errorf("outbox: the route of message %s has a name of more than 255 bytes", m.ID)
	}
	encoded, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message %s for the outbox: %w", m.ID, err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO outbox (key, exchange, route, message) VALUES ($1, $2, $3, $4)`,
		key, route.Exchange, route.Key, encoded)
	if err != nil {
		return fmt.Errorf("add message %s to the outbox: %w", m.ID, err)
	}
	return nil
}

// Count says how many messages wait, and how many of them have failed and are to
// be tried again later; what waits behind those is not in the second number.
func Count(ctx context.Context, pool *pgxpool.Pool) (waiting, heldBack int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE not_before IS NOT NULL) FROM outbox`).Scan(&waiting, &heldBack)
	if err != nil {
		return 0, 0, fmt.Errorf("count the outbox: %w", err)
	}
	return waiting, heldBack, nil
}
