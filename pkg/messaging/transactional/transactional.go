// Package transactional makes one step of a message, its changes in the database and the
// messages that it causes: the changes, the record in the inbox and the messages in the
// outbox are written in one transaction. After the commit the relay of the outbox is woken.
//
//	db := transactional.New(pool, relay.Wake, log)
//	h := transactional.JSON(db, func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, body Body) error {
//		if _, err := tx.Exec(ctx, `UPDATE ...`); err != nil {
//			return err
//		}
//		return outbox.Add(ctx, tx, body.Key, route, message)
//	})
//	consumer, err := conn.Consume(queue, h)
//
// The database must have the tables of packages inbox and outbox.
package transactional

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
)

// DB is a database with an inbox and an outbox. Safe for concurrent use.
type DB struct {
	pool      *pgxpool.Pool
	committed func()
	log       *zap.Logger
}

// New makes a DB. committed is called after each commit and must not block: it should be the
// method Wake of the outbox's relay. If it is nil, the relay finds new messages after 250 ms
// at most. log gets a line for each copy of a message; with nil nothing is logged.
func New(pool *pgxpool.Pool, committed func(), log *zap.Logger) *DB {
	if committed == nil {
		committed = func() {}
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &DB{pool, committed, log}
}

// Pool gives the connections of the database, for statements outside of a transaction.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Tx is a transaction. The method of [DB] that has begun it commits it or rolls it back; a
// function that gets it must not do that.
type Tx struct {
	pgx.Tx
	committed []func()
}

// OnCommit calls f after the commit, and never if the transaction is rolled back: for logs and
// metrics. f must not block. Several functions are called in the order in which they were
// given. If the connection is lost during the commit the outcome is unknown, and f is not
// called.
func (tx *Tx) OnCommit(f func()) { tx.committed = append(tx.committed, f) }

// Do calls f in a transaction. When f returns nil it commits and wakes the relay. Otherwise it
// rolls back and returns the error of f unchanged.
func (db *DB) Do(ctx context.Context, f func(tx *Tx) error) error {
	var own Tx
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		own.Tx = tx
		return f(&own)
	})
	if err != nil {
		return err
	}
	db.committed()
	for _, f := range own.committed {
		f()
	}
	return nil
}

// Once is [DB.Do] for a message: it records the message in the inbox and calls f, both in one
// transaction. A message that was recorded before is a copy: f is not called, first is false,
// and there is no error. A copy that is handled at the same time waits until the first
// transaction has ended.
//
// Errors of PostgreSQL are classified, see [inbox.Verdict]; an error that f has marked stays
// as it is. A message without an id is a [messaging.Permanent] error with [inbox.ErrNoID].
//
// Use Once in a handler that does something outside of the transaction first, such as a call
// to another system. For all others there is [DB.Handler].
func (db *DB) Once(ctx context.Context, queue, messageID string, f func(tx *Tx) error) (first bool, err error) {
	if tx, ok := ctx.Value(shared{db}).(*Tx); ok { // the message is recorded with its batch
		return true, f(tx)
	}
	err = db.Do(ctx, func(tx *Tx) error {
		first, err := inbox.Record(ctx, tx, queue, messageID)
		switch {
		case err != nil:
			return err
		case !first:
			return errCopy // nothing to commit, and nothing to wake the relay for
		default:
			return f(tx)
		}
	})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errCopy):
		return false, nil
	default:
		return false, inbox.Verdict(err)
	}
}

var errCopy = errors.New("message was handled before")

// Handler makes a handler of effect, which changes the database because of a message. However
// often the message is delivered, at most one call of effect is committed. For a later copy
// effect is not called; the copy is logged and acknowledged.
//
// The error of effect has the same meaning as that of any [messaging.Handler], and every error
// rolls back. Errors of PostgreSQL are classified by [inbox.Verdict].
//
// Handler of a nil function is nil; [messaging.Conn.Consume] refuses it.
func (db *DB) Handler(effect func(ctx context.Context, tx *Tx, d *messaging.Delivery) error) messaging.Handler {
	if effect == nil {
		return nil
	}
	return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		return db.handle(ctx, d, func(tx *Tx) error { return effect(ctx, tx, d) })
	})
}

// JSON is [DB.Handler] with the decoded body, see [messaging.JSON]. The body is decoded before
// the transaction begins.
func JSON[T any](db *DB, effect func(ctx context.Context, tx *Tx, d *messaging.Delivery, body T) error) messaging.Handler {
	if effect == nil {
		return nil
	}
	return messaging.JSON(func(ctx context.Context, d *messaging.Delivery, body T) error {
		return db.handle(ctx, d, func(tx *Tx) error { return effect(ctx, tx, d, body) })
	})
}

func (db *DB) handle(ctx context.Context, d *messaging.Delivery, f func(tx *Tx) error) error {
	first, err := db.Once(ctx, d.Queue, d.ID, f)
	if err == nil && !first {
		db.logCopy(d)
	}
	return err
}

func (db *DB) logCopy(d *messaging.Delivery) {
	db.log.Info("message was handled before, nothing to do", zap.String("message_id", d.ID), zap.String("type", d.Type),
		zap.String("correlation_id", d.CorrelationID), zap.String("queue", d.Queue))
}
