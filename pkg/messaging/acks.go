package messaging

import (
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// maxHeldAcks and maxAckDelay bound how many acknowledgements wait for each
	// other, and how long: what waits is delivered again if the connection breaks.
	maxHeldAcks = 50
	maxAckDelay = time.Millisecond
)

// acks sends the acknowledgements of one channel, many in one frame where it can:
// "multiple" covers everything up to its delivery tag, so it is safe for those
// that have no unsettled message before them. The others go one by one.
//
// An acknowledgement is sent at once when the last one was sent more than a
// millisecond ago, so only a busy consumer waits, and when a part of the prefetch
// is held, so the broker never runs dry.
type acks struct {
	ch    *amqp.Channel
	limit int // this many are not held

	mu    sync.Mutex
	next  uint64                 // every tag below it is settled
	above map[uint64]disposition // those that are not contiguous
	held  int                    // acknowledged and not sent
	last  uint64                 // highest held tag below next; 0 for none
	sent  time.Time
	timer *time.Timer
	err   error // of a sending that nobody waited for
}

type disposition bool

const (
	toAck   disposition = true
	settled disposition = false
)

func newAcks(ch *amqp.Channel, prefetch int) *acks {
	a := &acks{ch: ch, limit: min(maxHeldAcks, max(prefetch/4, 1)), next: 1, above: map[uint64]disposition{}}
	a.timer = time.AfterFunc(time.Hour, a.flush)
	a.timer.Stop()
	return a
}

// ack acknowledges a delivery, now or within maxAckDelay.
func (a *acks) ack(tag uint64, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.held++
	a.note(tag, toAck)
	if a.held >= a.limit || now.Sub(a.sent) > maxAckDelay {
		return a.send(now)
	}
	if a.held == 1 {
		a.timer.Reset(maxAckDelay)
	}
	return nil
}

// settle notes a delivery that was settled otherwise.
func (a *acks) settle(tag uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(tag, settled)
}

// note moves next over what is contiguous.
func (a *acks) note(tag uint64, d disposition) {
	if tag != a.next {
		a.above[tag] = d
		return
	}
	for ok := true; ok; d, ok = a.above[a.next] {
		delete(a.above, a.next)
		if d == toAck {
			a.last = a.next
		}
		a.next++
	}
}

// flush sends what is held.
func (a *acks) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held > 0 && a.err == nil {
		a.err = a.send(time.Now())
	}
}

// stop ends the timer; what is still held is delivered again.
func (a *acks) stop() { a.timer.Stop() }

// send acknowledges everything that is held.
func (a *acks) send(now time.Time) error {
	a.sent, a.held = now, 0
	if a.last > 0 {
		if err := a.ch.Ack(a.last, true); err != nil {
			return err
		}
		a.last = 0
	}
	for tag, d := range a.above {
		if d == toAck {
			if err := a.ch.Ack(tag, false); err != nil {
				return err
			}
			a.above[tag] = settled
		}
	}
	return nil
}
