package service

import (
	"context"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/inbox"
)

// How long a service keeps the data that it needs only to recognise copies. A copy that comes
// later is handled as new.
const (
	// InboxRetention is for messages. It is longer than the retention of the audit stream,
	// and longer than dead letters should wait.
	InboxRetention = 30 * 24 * time.Hour
	// SentRetention is for notifications to customers. It is as long as InboxRetention,
	// because a message causes each notification.
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

// Prune registers a table from which old rows are deleted. prune deletes some of them and
// returns their number. It is called 1 min after the start and then every hour, each time
// until it returns 0, so it should delete a limited number of rows in one call. Call Prune
// before the start is complete: before [Core.Run], or in wire.
func (c *Core) Prune(table string, prune func(ctx context.Context) (int64, error)) {
	c.pruners = append(c.pruners, pruner{table, prune})
}

// pruneInbox deletes old rows of the inbox, which every service has.
func (c *Core) pruneInbox(ctx context.Context) (int64, error) {
	return inbox.Prune(ctx, c.pool, InboxRetention)
}

// prune deletes old rows regularly until ctx is done.
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

// all calls prune until no old rows are left.
func (p pruner) all(ctx context.Context) (total int64, err error) {
	for {
		n, err := p.prune(ctx)
		total += n
		if n == 0 || err != nil {
			return total, err
		}
	}
}
