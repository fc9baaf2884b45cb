// Package inbox makes the effect of a message happen once, though it may be
// delivered more often: the fact that a message was seen is written in the same
// transaction as its effect.
//
//	tx, err := pool.Begin(ctx)
//	first, err := inbox.Record(ctx, tx, d.Queue, d.ID)
//	if !first { return tx.Rollback(ctx) }  // its effect is there already
//	// ... the effect, in tx ...
//	return tx.Commit(ctx)
package inbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/orderflow/pkg/messaging"
)

//go:embed migrations/*.sql
var files embed.FS

// VersionTable is where the migrations keep their version.
const VersionTable = "inbox_version"

// Migrations are goose migrations that make the table inbox.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// ErrNoID says that a message has no id, so a second copy could not be recognised.
var ErrNoID = errors.New("inbox: message without an id")

// Record writes that the message was seen in its queue, and says whether this is
// the first time. Call it first in the transaction: a second copy that is handled
// at the same moment then waits here until the first one's transaction has ended.
//
// A message without an id is [messaging.Permanent] with [ErrNoID]; the database's
// errors have their [Verdict].
func Record(ctx context.Context, tx pgx.Tx, queue, messageID string) (first bool, err error) {
	if messageID == "" {
		return false, messaging.Permanent(ErrNoID)
	}
	tag, err := tx.Exec(ctx, `INSERT INTO inbox (queue, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, queue, messageID)
	if err != nil {
		return false, Verdict(fmt.Errorf("record message %s: %w", messageID, err))
	}
	return tag.RowsAffected() == 1, nil
}

// Seen says whether a message was recorded. It is for effects that cannot be in the
// transaction, such as a call to somebody else's system: ask before, and [Record]
// afterwards. Two copies that are handled at the same moment may both be told no.
// Its errors are those of [Record].
func Seen(ctx context.Context, pool *pgxpool.Pool, queue, messageID string) (seen bool, err error) {
	if messageID == "" {
		return false, messaging.Permanent(ErrNoID)
	}
	err = pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM inbox WHERE queue = $1 AND message_id = $2)`, queue, messageID).Scan(&seen)
	if err != nil {
		return false, Verdict(fmt.Errorf("look for message %s: %w", messageID, err))
	}
	return seen, nil
}

// Prune forgets what was seen longer ago than this, and says how much. Keep more
// than anything can come back after: dead letters, and the audit stream's age.
func Prune(ctx context.Context, pool *pgxpool.Pool, olderThan time.Duration) (int64, error) {
	tag, err := pool.Exec(ctx, `DELETE FROM inbox WHERE seen_at < now() - make_interval(secs => $1)`, olderThan.Seconds())
	if err != nil {
		return 0, fmt.Errorf("prune the inbox: %w", err)
	}
	return tag.RowsAffected(), nil
}
