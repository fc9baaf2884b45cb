// Package transactional makes "handle a message, change the database, tell the others" one
// step. What a message changes, that it was seen, and the messages that it causes are
// written in one transaction; after its commit the outbox's relay is woken.
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
// The database has the tables of packages inbox and outbox.
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

// New makes a DB. committed is called after each commit and must not block: give it the
// method Wake of the outbox's relay. If it is nil, the relay finds new messages when it looks
// the next time, 250 ms later at most. log gets a line for each copy of a message; nil logs
// nothing.
func New(pool *pgxpool.Pool, committed func(), log *zap.Logger) *DB {
	if committed == nil {
		committed = func() {}
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &DB{pool, committed, log}
}

// Pool is the connections of the database, for what needs no transaction.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Tx is a transaction that the method of [DB] which has begun it commits or rolls back. The
// function that gets it must do neither.
type Tx struct {
	pgx.Tx
	committed []func()
}

// OnCommit has f called after the commit, and never if the transaction is rolled back: for
// logs and metrics that say what has happened. f must not block. Several functions are called
// in the order in which they were given. If the connection is lost during the commit, the
// outcome is unknown, and f is not called.
func (tx *Tx) OnCommit(f func()) { tx.committed = append(tx.committed, f) }

// Do calls f in a transaction. It commits when f returns nil, and wakes the relay; else it
// rolls back and returns f's error as it is.
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

// Once is [DB.Do] for a message: it records the message in the inbox and calls f, both in
// one transaction. A message that was recorded before is a copy: f is not called, first is
// false, and there is no error. A copy that is handled at the same moment waits until the
// first one's transaction has ended.
//
// The error has its verdict, see [inbox.Verdict]; a verdict that f gives stays. A message
// without an id is [messaging.Permanent] with [inbox.ErrNoID].
//
// [DB.Handler] is for handlers that do nothing else. Once is for those that do something
// outside the transaction before, such as a call to another system.
func (db *DB) Once(ctx context.Context, queue, messageID string, f func(tx *Tx) error) (first bool, err error) {
	if tx, ok := ctx.Value(shared{db}).(*Tx); ok { // it is recorded with its batch
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
// often a message is delivered, one call of effect is committed at most. For a copy that comes
// later effect is not called; the copy is logged and acknowledged.
//
// What effect returns is the verdict, as that of any [messaging.Handler], and every error rolls
// back. PostgreSQL's errors become Permanent or Unavailable where [inbox.Verdict] says so.
//
// Handler of a nil function is nil, which [messaging.Conn.Consume] refuses.
func (db *DB) Handler(effect func(ctx context.Context, tx *Tx, d *messaging.Delivery) error) messaging.Handler {
	if effect == nil {
		return nil
	}
	return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		return db.handle(ctx, d, func(tx *Tx) error { return effect(ctx, tx, d) })
	})
}

// JSON is [DB.Handler] for a body that is decoded as [messaging.JSON] does, before there is
// a transaction.
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
