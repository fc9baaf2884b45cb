package service

import (
	"context"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/inbox"
)

// For how long a service remembers what it needs only to recognise a copy. A copy that
// comes later is taken for new.
const (
	// InboxRetention is for messages: longer than the audit stream keeps anything, and
	// than dead letters should wait.
	InboxRetention = 30 * 24 * time.Hour
	// SentRetention is for what went out to customers. It is as long as InboxRetention,
	// because what went out was caused by a message.
	SentRetention = InboxRetention
	// IdempotencyKeyRetention is for the keys of customers' requests.
	IdempotencyKeyRetention = 7 * 24 * time.Hour
)

const (
	pruneFirst = time.Minute
	pruneEvery = time.Hour
)

// pruner is a table from which old rows are deleted.
type pruner struct {
	table string
	prune func(ctx context.Context) (int64, error)
}

// Prune registers a table, before [Core.Run]. prune deletes some of the rows that are too
// old and says how many. It is called 1 min after the start and then every hour, again and
// again until it deletes none, so it should delete a bounded number.
func (c *Core) Prune(table string, prune func(ctx context.Context) (int64, error)) {
	c.pruners = append(c.pruners, pruner{table, prune})
}

// pruneInbox is the one table that every service has.
func (c *Core) pruneInbox(ctx context.Context) (int64, error) {
	return inbox.Prune(ctx, c.pool, InboxRetention)
}

// prune deletes what is too old until ctx is done.
func (c *Core) prune(ctx context.Context, first, every time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for _, p := range c.pruners {
			n, err := p.all(ctx)
			if err != nil && ctx.Err() == nil {
				c.Log.Warn("table not pruned, trying again later", zap.String("table", p.table), zap.Error(err))
			}
			if n > 0 {
				c.Log.Info("table pruned", zap.String("table", p.table), zap.Int64("rows", n))
			}
		}
		timer.Reset(every)
	}
}

// all prunes a table until nothing in it is too old.
func (p pruner) all(ctx context.Context) (total int64, err error) {
	for {
		n, err := p.prune(ctx)
		total += n
		if n == 0 || err != nil {
			return total, err
		}
	}
}
