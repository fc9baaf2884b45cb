// Package inbox makes the effect of a message happen once, though it may be
// delivered more often: the fact that a message was seen is written in the same
// transaction as its effect.
//
//	tx, err := pool.Begin(ctx)
//	first, err := inbox.Record(ctx, tx, d.Queue, d.ID)
//	if !first { return tx.Rollback(ctx) }  // its effect is there already
//	// ... the effect, in tx ...
//	return tx.Commit(ctx)
//
// Package transactional does this, with an outbox, around a handler.
package inbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
// Its errors are those of [RecordAll].
func Record(ctx context.Context, tx pgx.Tx, queue, messageID string) (first bool, err error) {
	firsts, err := RecordAll(ctx, tx, queue, []string{messageID})
	if err != nil {
		return false, err
	}
	return firsts[0], nil
}

// RecordAll is [Record] for many messages of one queue, in one statement. firsts[i] says
// whether messageIDs[i] is seen for the first time; of two equal ids among them, the
// earlier one is the first.
//
// Two calls for some of the same messages wait for each other and never for ever: ids are
// written in the order of the database's collation, whatever their order here.
//
// A message without an id is [messaging.Permanent] with [ErrNoID], and nothing is written;
// the transaction can go on. The database's errors have their [Verdict]; an id that
// PostgreSQL cannot keep, such as one with a zero byte, is Permanent too, and as with
// every error of the database the transaction has failed with it, for all the messages.
func RecordAll(ctx context.Context, tx pgx.Tx, queue string, messageIDs []string) (firsts []bool, err error) {
	firsts = make([]bool, len(messageIDs))
	if len(messageIDs) == 0 {
		return firsts, nil
	}
	if slices.Contains(messageIDs, "") {
		return nil, messaging.Permanent(ErrNoID)
	}
	rows, _ := tx.Query(ctx, `INSERT INTO inbox (queue, message_id) SELECT $1, id FROM unnest($2::text[]) AS id ORDER BY id
		ON CONFLICT DO NOTHING RETURNING message_id`, queue, messageIDs) // CollectRows gives the error
	recorded, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, Verdict(fmt.Errorf("record message %s: %w", names(messageIDs), err))
	}
	positions := make(map[string]int, len(messageIDs))
	for i, id := range slices.Backward(messageIDs) {
		positions[id] = i
	}
	for _, id := range recorded {
		firsts[positions[id]] = true
	}
	return firsts, nil
}

// names are the ids for an error's text: the first one, and how many there are besides.
func names(messageIDs []string) string {
	if len(messageIDs) == 1 {
		return messageIDs[0]
	}
	return fmt.Sprintf("%s and %d more", messageIDs[0], len(messageIDs)-1)
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
