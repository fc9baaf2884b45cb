package transactional

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
)

// Batch is [DB.Handler] for many messages of one queue, in one transaction. effect gets the
// messages that were not handled before, in their order; if there are none it is not called.
// It should lock the rows that it changes always in the same order, such as that of their
// ids: otherwise two batches may be in a deadlock, which is an error in one of them.
//
// An error is about the whole batch, which is rolled back. The consumer then handles each
// message alone, in a batch of one, so that one message does not make the others fail. The
// error of effect is classified as by [DB.Handler].
//
// Batch of a nil function is nil; [messaging.Conn.ConsumeBatch] refuses it.
func (db *DB) Batch(effect func(ctx context.Context, tx *Tx, batch []*messaging.Delivery) error) messaging.BatchHandler {
	if effect == nil {
		return nil
	}
	return messaging.BatchHandlerFunc(func(ctx context.Context, batch []*messaging.Delivery) error {
		copies, err := db.onceAll(ctx, batch, effect)
		if err != nil {
			return inbox.Verdict(fmt.Errorf("handle %d messages in one transaction: %w", len(batch), err))
		}
		for _, d := range copies {
			db.logCopy(d)
		}
		return nil
	})
}

// Each is [DB.Batch] with a handler of single messages, such as that of a [messaging.Mux],
// which is called for one message after the other. When it uses [DB.Handler], [JSON] or
// [DB.Once] of the same DB, these work in the transaction of the batch. So it should do
// nothing outside of the database that takes long. The first error ends the batch.
//
// Each of a nil handler is nil.
func (db *DB) Each(h messaging.Handler) messaging.BatchHandler {
	if h == nil {
		return nil
	}
	return db.Batch(func(ctx context.Context, tx *Tx, batch []*messaging.Delivery) error {
		ctx = context.WithValue(ctx, shared{db}, tx)
		for _, d := range batch {
			if err := h.Handle(ctx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// shared is the context key for the transaction of a batch.
type shared struct{ db *DB }

// onceAll gives the copies among the messages.
func (db *DB) onceAll(ctx context.Context, batch []*messaging.Delivery, effect func(ctx context.Context, tx *Tx, batch []*messaging.Delivery) error) (copies []*messaging.Delivery, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	ids := make([]string, len(batch))
	for i, d := range batch {
		ids[i] = d.ID
	}
	err = db.Do(ctx, func(tx *Tx) error {
		firsts, err := inbox.RecordAll(ctx, tx, batch[0].Queue, ids)
		if err != nil {
			return err
		}
		var fresh []*messaging.Delivery
		for i, d := range batch {
			if firsts[i] {
				fresh = append(fresh, d)
			} else {
				copies = append(copies, d)
			}
		}
		if len(fresh) == 0 {
			return errCopy
		}
		return effect(ctx, tx, fresh)
	})
	if errors.Is(err, errCopy) {
		err = nil
	}
	return copies, err
}
