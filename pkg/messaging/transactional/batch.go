package transactional

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
)

// Batch is [DB.Handler] for many messages of one queue, in one transaction. effect gets
// those that were not handled before, in their order; it is not called when there is none.
// It should lock what it changes in an order that is always the same, such as that of ids:
// two batches that wait for each other are an error in one of them.
//
// An error is about the whole batch, which is rolled back: whoever calls handles each of
// its messages alone, in a batch of one, so that one of them fails no other. It has the
// verdict of effect's error, as [DB.Handler] has.
//
// Batch of a nil function is nil, which [messaging.Conn.ConsumeBatch] refuses.
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

// Each is [DB.Batch] by a handler of single messages, such as a [messaging.Mux]: it is called
// for one after the other. What [DB.Handler], [JSON] and [DB.Once] of the same DB do in it
// is part of the batch's transaction; so it should do nothing that takes long outside of the
// database. The first error ends the batch.
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

// shared is the key of a batch's transaction in the context of its handlers.
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
