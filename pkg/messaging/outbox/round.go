package outbox

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// failure is a row that was refused, or that cannot be decoded.
type failure struct {
	row
	err error
}

// outcomes are the results of rows, by id.
type outcomes struct {
	done   []int64   // confirmed
	late   []int64   // not confirmed yet, or not sent because another row is not
	lost   []int64   // late, and their outcome will never be known
	failed []failure // refused
	broken error     // why rows were not sent, or have an unknown outcome
}

func (o *outcomes) empty() bool { return len(o.done)+len(o.late)+len(o.lost)+len(o.failed) == 0 }

// add notes the outcome of a row.
func (o *outcomes) add(s *sending) {
	switch s.result {
	case confirmed:
		o.done = append(o.done, s.id)
	case refused:
		o.failed = append(o.failed, failure{s.row, s.err})
	case unknown:
		o.broken = fmt.Errorf("publish from the outbox: %w", s.err)
		if s.late {
			o.lost = append(o.lost, s.id)
		}
	case unclear: // no outcome yet: it is sent again
	}
}

// join adds other outcomes.
func (o *outcomes) join(other outcomes) {
	o.done = append(o.done, other.done...)
	o.lost = append(o.lost, other.lost...)
	o.failed = append(o.failed, other.failed...)
}

// A round sends the rows of one transaction: the first of each key, and when that is
// confirmed the next one. A key whose row is refused or late sends no more.
type round struct {
	*Relay
	open    context.Context // when it is done nothing more is sent
	queues  map[string][]row
	running map[int64]*sending
	unsent  []*sending // the publisher did not take them in time
	out     outcomes
}

// publish sends rows until ctx is done, and then waits for those that are on their way
// until they have an outcome or are late.
func (r *Relay) publish(ctx context.Context, rows []row) outcomes {
	open, shut := context.WithCancel(ctx)
	defer shut()
	b := &round{Relay: r, open: open, queues: map[string][]row{}, running: map[int64]*sending{}}
	var keys []string
	for _, o := range rows {
		if b.queues[o.key] == nil {
			keys = append(keys, o.key)
		}
		b.queues[o.key] = append(b.queues[o.key], o)
	}
	for _, key := range keys {
		b.next(key)
	}
	b.wait()
	shut()
	b.leave()
	return b.out
}

// next sends the first row of a key, if it may go now.
func (b *round) next(key string) {
	if len(b.queues[key]) == 0 || b.open.Err() != nil {
		return
	}
	o := b.queues[key][0]
	l := b.lane(o.route)
	switch {
	case o.bad != nil:
		b.out.failed = append(b.out.failed, failure{o, fmt.Errorf("decode the message: %w", o.bad)})
	case b.sendings[o.id] != nil, l.busy(): // it is late from an earlier round, or would be late
		b.out.late = append(b.out.late, o.id)
	default:
		s := &sending{row: o, lane: l, until: time.Now().Add(l.waitTime()), sent: make(chan struct{})}
		b.running[o.id] = s
		b.send(b.open, s)
	}
}

// wait takes outcomes until every row has one or is late.
func (b *round) wait() {
	timer := time.NewTimer(shortWait)
	defer timer.Stop()
	for len(b.running) > 0 {
		select {
		case s := <-b.results:
			b.ended(s)
		case <-timer.C:
			left := b.left()
			if left <= 0 {
				return
			}
			timer.Reset(left)
		}
	}
}

// left is the time until all rows without an outcome are late.
func (b *round) left() time.Duration {
	var last time.Time
	for _, s := range b.running {
		if s.until.After(last) {
			last = s.until
		}
	}
	return time.Until(last)
}

// ended takes an outcome, of this round or of an earlier one.
func (b *round) ended(s *sending) {
	b.finish(s)
	if b.running[s.id] == nil || s.result == unclear {
		return
	}
	delete(b.running, s.id)
	if s.result == unknown && !isClosed(s.sent) && b.open.Err() != nil {
		b.unsent = append(b.unsent, s)
		return
	}
	b.out.add(s)
	if s.result == confirmed {
		b.queues[s.key] = b.queues[s.key][1:]
		b.next(s.key)
	}
}

// leave leaves late rows to later rounds. It waits until each of them is sent, or until
// the publisher has refused it because the round is over.
func (b *round) leave() {
	for _, s := range b.running {
		for b.running[s.id] != nil && !isClosed(s.sent) {
			select {
			case <-s.sent:
			case other := <-b.results:
				b.ended(other)
			}
		}
	}
	for _, s := range b.running {
		s.late = true
		s.lane.late++
		b.out.late = append(b.out.late, s.id)
		b.log.Warn("message not confirmed yet", zap.String("key", s.key), zap.Int64("outbox_id", s.id))
	}
	for _, s := range b.unsent {
		if s.lane.late > 0 || len(b.out.done) > 0 { // only its lane waits, not all lanes
			b.out.late = append(b.out.late, s.id)
		} else {
			b.out.add(s)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
