package outbox

import (
	"context"
	"errors"
	"time"

	"example.com/orderflow/pkg/messaging"
)

const (
	// rowWait is for how long a round waits for the confirm of a row. After that the row
	// is late: the round goes on without it, and a later round gets its outcome. In a lane
	// that has a late row already, a round waits only for shortWait.
	rowWait   = time.Second
	shortWait = 50 * time.Millisecond
	// maxLate is how many rows a lane may have on their way while one of them is late: more
	// would be late too.
	maxLate = 16
)

// A lane is the rows that are published on one channel: those to one exchange, or to one
// queue on the default exchange. When the broker closes or stops the channel because of one
// of them, that affects the whole lane and no other one. Only the goroutine of [Relay.Run]
// uses it.
type lane struct {
	route     messaging.Route
	onTheWay  int        // rows that were sent and have no outcome, without those of resending
	late      int        // those of them whose round is over
	toResend  []*sending // the broker has refused one of these, it is not known which
	resending int        // rows of toResend that are being sent again, one after the other
}

// lane gives the lane of a route.
func (r *Relay) lane(route messaging.Route) *lane {
	if route.Exchange != "" {
		route.Key = ""
	}
	l := r.lanes[route]
	if l == nil {
		l = &lane{route: route}
		r.lanes[route] = l
	}
	return l
}

// busy says whether a lane takes no more rows for now.
func (l *lane) busy() bool {
	return len(l.toResend) > 0 || l.resending > 0 || l.late > 0 && l.onTheWay >= maxLate
}

// waitTime is for how long a round waits for a row of this lane. It is short when a row of the
// lane is late already.
func (l *lane) waitTime() time.Duration {
	if l.late > 0 {
		return shortWait
	}
	return rowWait
}

// sending is a row that was handed to the publisher.
type sending struct {
	row
	lane   *lane
	until  time.Time     // how long its round waits for it
	sent   chan struct{} // closed when it is on its way
	late   bool          // its round is over
	alone  bool          // it was unclear, and was sent again alone
	err    error         // the outcome
	result verdict       // what that means
}

// verdict is what becomes of a row that was sent.
type verdict int

const (
	confirmed verdict = iota
	refused           // the broker refuses this message
	unclear           // the broker refuses this message or another one: it will be sent again alone
	unknown           // the connection was lost, for example: it will be sent again
)

// classify says whether the message itself was refused. All other errors, such as a lost
// connection, say nothing about the message.
func (s *sending) classify() verdict {
	refusal := errors.Is(s.err, messaging.ErrRefused)
	switch {
	case s.err == nil:
		return confirmed
	case errors.Is(s.err, messaging.ErrNacked), errors.Is(s.err, messaging.ErrUnroutable), errors.Is(s.err, messaging.ErrInvalid):
		return refused
	case refusal && (s.alone || !errors.Is(s.err, messaging.ErrConnectionLost)):
		return refused
	case refusal:
		return unclear
	default:
		return unknown
	}
}

// send hands a row to the publisher. When the round ends before the publisher has sent the
// row, it is not sent.
func (r *Relay) send(round context.Context, s *sending) {
	s.lane.onTheWay++
	r.expect(s)
	go func() {
		c := r.pub.PublishAsync(round, s.route, s.message)
		select {
		case <-c.Done():
		default:
			close(s.sent)
		}
		s.err = c.Wait(r.life)
		r.results <- s
	}()
}

// resend sends the rows of toResend again, one after the other, as soon as nothing else of
// their lane is on its way. So it becomes known which of them the broker refuses.
func (r *Relay) resend(l *lane) {
	rows := l.toResend
	if l.onTheWay > 0 || l.resending > 0 || len(rows) == 0 {
		return
	}
	l.toResend, l.resending = nil, len(rows)
	for _, s := range rows {
		r.expect(s)
	}
	go func() {
		for _, s := range rows {
			s.err = r.pub.Publish(r.life, s.route, s.message)
			s.alone = true
			r.results <- s
		}
	}()
}

// expect notes a row whose outcome will come from a goroutine.
func (r *Relay) expect(s *sending) {
	r.sendings[s.id] = s
	r.expected++
}

// finish takes the outcome of a row.
func (r *Relay) finish(s *sending) {
	l := s.lane
	r.expected--
	if s.alone {
		l.resending--
	} else {
		l.onTheWay--
	}
	if s.result = s.classify(); s.result == unclear {
		l.toResend = append(l.toResend, s)
	} else {
		delete(r.sendings, s.id)
		if s.late {
			l.late--
			r.lateOutcomes.add(s)
		}
	}
	r.resend(l)
	if l.onTheWay+l.late+l.resending+len(l.toResend) == 0 {
		delete(r.lanes, l.route)
	}
}

// collect takes the outcomes that are there, and does not wait for others.
func (r *Relay) collect() {
	for {
		select {
		case s := <-r.results:
			r.finish(s)
		default:
			return
		}
	}
}

// endSending stops waiting for confirms, and returns when no goroutine sends any more.
func (r *Relay) endSending() {
	r.stop()
	for r.expected > 0 {
		r.finish(<-r.results)
	}
}
