package messaging

import (
	"sync"
	"time"
)

const (
	// maxHeldAcks and maxAckDelay bound how many acknowledgements are held, and how long.
	// Messages whose acknowledgement is held are delivered again if the connection is lost.
	maxHeldAcks = 50
	maxAckDelay = time.Millisecond
)

// acknowledger is the part of a channel that acks needs.
type acknowledger interface {
	Ack(tag uint64, multiple bool) error
}

// acks sends the acknowledgements of one channel, many in one frame if possible. An
// acknowledgement with "multiple" covers all deliveries up to its tag, so it can be used only
// if no earlier message is unsettled. The others are sent one by one.
//
// Acknowledgements are sent at once when the last ones were sent more than a millisecond
// ago, so only a busy consumer holds them. They are also sent when limit are held, so that
// the broker can always send more messages.
//
// The time for each message is constant, however many are unsettled. The memory depends on
// the number of unsettled messages only, not on how many were settled since the oldest one.
type acks struct {
	ch    acknowledger
	limit int // with this many held, all are sent

	mu    sync.Mutex
	known uint64   // the highest tag that was settled
	open  openTags // the tags below known that are not settled
	held  []uint64 // acknowledged, not sent yet
	sent  time.Time
	timer *time.Timer
	err   error // of a send that flush has done
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

// settle notes a delivery that was rejected or given back.
func (a *acks) settle(tag uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.close(tag)
}

// close notes that a tag is settled. A channel delivers in the order of its tags, so all
// lower tags were delivered already: those that are not settled are open.
func (a *acks) close(tag uint64) {
	if tag <= a.known {
		a.open.remove(tag)
		return
	}
	for a.known++; a.known < tag; a.known++ {
		a.open.append(a.known)
	}
}

// flush sends the acknowledgements that are held.
func (a *acks) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.held) > 0 && a.err == nil {
		a.err = a.send(time.Now())
	}
}

// stop stops the timer. Acknowledgements that are still held are not sent.
func (a *acks) stop() { a.timer.Stop() }

// send sends all acknowledgements that are held.
func (a *acks) send(now time.Time) error {
	held := a.held
	a.sent, a.held = now, a.held[:0]
	below, some := a.open.lowest()
	var upTo uint64 // the highest held tag with no open tag below it
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

// openTags has delivery tags in ascending order: a list, and the position of each tag in it.
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

// lowest gives the lowest tag, if there is one.
func (o *openTags) lowest() (tag uint64, ok bool) {
	if o.first == nil {
		return 0, false
	}
	return o.first.tag, true
}
