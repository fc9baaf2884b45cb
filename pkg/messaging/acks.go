package messaging

import (
	"sync"
	"time"
)

const (
	// maxHeldAcks and maxAckDelay bound how many acknowledgements wait for each
	// other, and how long: what waits is delivered again if the connection breaks.
	maxHeldAcks = 50
	maxAckDelay = time.Millisecond
)

// acknowledger is the part of a channel that acks needs.
type acknowledger interface {
	Ack(tag uint64, multiple bool) error
}

// acks sends the acknowledgements of one channel, many in one frame where it can:
// "multiple" covers everything up to its delivery tag, so it is safe for those
// that have no unsettled message before them. The others go one by one.
//
// An acknowledgement is sent at once when the last one was sent more than a
// millisecond ago, so only a busy consumer waits, and when a part of the prefetch
// is held, so the broker never runs dry.
//
// The work for each message is constant, however many are unsettled. The memory
// grows with the messages that are unsettled, never with those that came after one.
type acks struct {
	ch    acknowledger
	limit int // this many are not held

	mu    sync.Mutex
	known uint64   // the highest tag that was settled so far
	open  openTags // those up to known that are not settled
	held  []uint64 // acknowledged and not sent
	sent  time.Time
	timer *time.Timer
	err   error // of a sending that nobody waited for
}

func newAcks(ch acknowledger, prefetch int) *acks {
	a := &acks{ch: ch, limit: min(maxHeldAcks, max(prefetch/4, 1))}
	a.timer = time.AfterFunc(time.Hour, a.flush)
	a.timer.Stop()
	return a
}

// ack acknowledges deliveries, now or within maxAckDelay.
func (a *acks) ack(now time.Time, tags ...uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	for _, tag := range tags {
		a.close(tag)
	}
	a.held = append(a.held, tags...)
	if len(a.held) >= a.limit || now.Sub(a.sent) > maxAckDelay {
		return a.send(now)
	}
	if len(a.held) == len(tags) {
		a.timer.Reset(maxAckDelay)
	}
	return nil
}

// settle notes a delivery that was settled otherwise.
func (a *acks) settle(tag uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.close(tag)
}

// close notes that a tag is not open any more. A channel delivers in the order of its
// tags, so every lower one is there already: if it was not settled, it is open.
func (a *acks) close(tag uint64) {
	if tag <= a.known {
		a.open.remove(tag)
		return
	}
	for a.known++; a.known < tag; a.known++ {
		a.open.append(a.known)
	}
}

// flush sends what is held.
func (a *acks) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.held) > 0 && a.err == nil {
		a.err = a.send(time.Now())
	}
}

// stop ends the timer; what is still held is delivered again.
func (a *acks) stop() { a.timer.Stop() }

// send acknowledges everything that is held.
func (a *acks) send(now time.Time) error {
	held := a.held
	a.sent, a.held = now, a.held[:0]
	below, some := a.open.lowest()
	var upTo uint64 // the highest one that has none before it
	for _, tag := range held {
		if !some || tag < below {
			upTo = max(upTo, tag)
			continue
		}
		if err := a.ch.Ack(tag, false); err != nil {
			return err
		}
	}
	if upTo == 0 {
		return nil
	}
	return a.ch.Ack(upTo, true)
}

// openTags are delivery tags in ascending order: a list, and where in it each one is.
// The zero value is empty.
type openTags struct {
	first, last *openTag
	byTag       map[uint64]*openTag
}

type openTag struct {
	tag          uint64
	before, next *openTag
}

// append adds a tag that is higher than all others.
func (o *openTags) append(tag uint64) {
	if o.byTag == nil {
		o.byTag = map[uint64]*openTag{}
	}
	t := &openTag{tag: tag, before: o.last}
	if o.last == nil {
		o.first = t
	} else {
		o.last.next = t
	}
	o.last = t
	o.byTag[tag] = t
}

func (o *openTags) remove(tag uint64) {
	t, ok := o.byTag[tag]
	if !ok {
		return
	}
	delete(o.byTag, tag)
	if t.before == nil {
		o.first = t.next
	} else {
		t.before.next = t.next
	}
	if t.next == nil {
		o.last = t.before
	} else {
		t.next.before = t.before
	}
}

// lowest is the lowest tag, if there is one.
func (o *openTags) lowest() (tag uint64, ok bool) {
	if o.first == nil {
		return 0, false
	}
	return o.first.tag, true
}
