// Package inbox makes the effect of a message happen only once, although the message may be
// delivered more often: the id of the message is written to a table in the transaction of the
// effect.
//
//	tx, err := pool.Begin(ctx)
//	first, err := inbox.Record(ctx, tx, d.Queue, d.ID)
//	if !first { return tx.Rollback(ctx) }  // a copy: the effect has happened already
//	// ... the effect, in tx ...
//	return tx.Commit(ctx)
//
// Package transactional does this for a handler, together with an outbox.
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

// ErrNoID says that a message has no id, so that a copy could not be recognised.
var ErrNoID = errors.New("inbox: message without an id")

// Record records a message of a queue, and says whether this is the first time. Call it at
// the beginning of the transaction: a copy that is handled at the same time then waits here
// until the first transaction has ended. Its errors are those of [RecordAll].
func Record(ctx context.Context, tx pgx.Tx, queue, messageID string) (first bool, err error) {
	firsts, err := RecordAll(ctx, tx, queue, []string{messageID})
	if err != nil {
		return false, err
	}
	return firsts[0], nil
}

// RecordAll is [Record] for many messages of one queue, in one statement. firsts[i] says
// whether messageIDs[i] is recorded for the first time; when an id is there twice the
// earlier one is the first.
//
// Two calls with some of the same ids wait for each other without a deadlock: ids are
// written in the order of the database's collation, whatever their order here.
//
// A message without an id is a [messaging.Permanent] error with [ErrNoID]; nothing is
// written then, and the transaction can go on. Errors of the database are classified by
// [Verdict], and the transaction has failed with them, for all the messages. An id that
// PostgreSQL cannot store, such as one with a zero byte, is such an error, and Permanent.
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

// names gives the ids for the text of an error: the first one and the number of the others.
func names(messageIDs []string) string {
	if len(messageIDs) == 1 {
		return messageIDs[0]
	}
	return fmt.Sprintf("%s and %d more", messageIDs[0], len(messageIDs)-1)
}

// Seen says whether a message was recorded. It is for effects that cannot be in the
// transaction, such as a call to an outside system: call Seen before the effect and [Record]
// after it. For two copies that are handled at the same time both calls may return false.
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

// Prune deletes the records of messages that are older than this, and gives their number.
// Keep records for longer than any message can come back: from a dead-letter queue, for
// example, or from a stream.
func Prune(ctx context.Context, pool *pgxpool.Pool, olderThan time.Duration) (int64, error) {
	tag, err := pool.Exec(ctx, `DELETE FROM inbox WHERE seen_at < now() - make_interval(secs => $1)`, olderThan.Seconds())
	if err != nil {
		return 0, fmt.Errorf("prune the inbox: %w", err)
	}
	return tag.RowsAffected(), nil
}
