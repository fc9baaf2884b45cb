package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// waiting is a queue whose time to live becomes shorter while messages wait in it. These keep
// the time to live that the queue had when they arrived, and messages expire only at the head
// of a queue. So new messages wait behind the old ones, for longer than their own time to live.
type waiting struct {
	queue    string
	messages int
	old, new time.Duration
	// until is the latest time at which the last of them expires.
	until time.Time
}

func (w waiting) String() string {
	return fmt.Sprintf("warning: %s: %d messages wait with the %s that they came with, the last of them until %s at the latest; "+
		"those that come from now on, with %s, wait behind them until then (docs/runbooks/payment-deadline.md)",
		w.queue, w.messages, w.old, w.until.UTC().Format(time.RFC3339), w.new)
}

// shortened compares the topology with the broker, before it is applied, and returns the
// queues whose time to live becomes shorter while messages wait.
func shortened(ctx context.Context, admin messaging.Admin, t messaging.Topology) ([]waiting, error) {
	differences, err := messaging.Verify(ctx, admin, t)
	if err != nil {
		return nil, err
	}
	var list []waiting
	for _, d := range differences {
		q, ok := t.Queue(d.Name)
		if d.Entity != "queue" || d.Field != "message-ttl" || !ok || q.MessageTTL == 0 {
			continue
		}
		ms, err := strconv.ParseInt(d.Have, 10, 64)
		old := time.Duration(ms) * time.Millisecond
		if err != nil || old <= q.MessageTTL { // it had none, or less
			continue
		}
		list = append(list, waiting{queue: q.Name, old: old, new: q.MessageTTL})
	}
	if len(list) == 0 {
		return nil, nil
	}
	return count(ctx, admin, list)
}

// count reads how many messages wait in each queue, and leaves out empty queues.
func count(ctx context.Context, admin messaging.Admin, list []waiting) (full []waiting, err error) {
	conn, err := messaging.Connect(ctx, messaging.Config{
		URLs: []string{admin.AMQPURL}, User: admin.User, Password: admin.Password, TLS: admin.TLS, AppID: "orderctl",
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, w := range list {
		state, err := conn.QueueState(ctx, w.queue)
		if err != nil {
			return nil, err
		}
		if w.messages = state.Messages; w.messages > 0 {
			w.until = time.Now().Add(w.old)
			full = append(full, w)
		}
	}
	return full, nil
}
