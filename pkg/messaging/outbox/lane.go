package outbox

import (
	"context"
	"errors"
	"time"

	"example.com/orderflow/pkg/messaging"
)

const (
	// patience is for how long a round waits for a row. What is late then does not hold
	// up the others; a later round learns its outcome. Where another row is late already
	// it waits shortly.
	patience      = time.Second
	shortPatience = 50 * time.Millisecond
	// maxLate is how many rows a lane may have on their way while one of them is late:
	// the others would be as late.
	maxLate = 16
)

// A lane is what the rows to one exchange, or to one queue on the default exchange, have
// in common: what the broker does to a channel over one of them it does to all of them,
// and to no others. The goroutine of [Relay.Run] has it.
type lane struct {
	route     messaging.Route
	onTheWay  int        // rows that are being sent together
	late      int        // rows that were so when their round was over
	suspects  []*sending // the broker has refused one of these and does not say which
	narrowing int        // suspects that are being sent again, one after the other
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
	return len(l.suspects) > 0 || l.narrowing > 0 || l.late > 0 && l.onTheWay >= maxLate
}

func (l *lane) patience() time.Duration {
	if l.late > 0 {
		return shortPatience
	}
	return patience
}

// sending is a row that was handed to the publisher.
type sending struct {
	row
	lane   *lane
	until  time.Time     // its round waits for it
	sent   chan struct{} // closed when it is on its way
	late   bool          // its round is over
	alone  bool          // it was a suspect, and was sent again with no other one beside it
	err    error         // the outcome
	result verdict       // what that means
}

// verdict is what becomes of a row that was sent.
type verdict int

const (
	confirmed verdict = iota
	refused           // the message is to blame
	suspected         // it or another one is to blame, and it will be sent again alone
	unknown           // nobody is to blame, it goes out again
)

// judge tells whether the message itself was refused. Everything else, such as a lost
// connection, is no fault of the message.
func (s *sending) judge() verdict {
	blamed := errors.Is(s.err, messaging.ErrRefused)
	switch {
	case s.err == nil:
		return confirmed
	case errors.Is(s.err, messaging.ErrNacked), errors.Is(s.err, messaging.ErrUnroutable), errors.Is(s.err, messaging.ErrInvalid):
		return refused
	case blamed && (s.alone || !errors.Is(s.err, messaging.ErrConnectionLost)):
		return refused
	case blamed:
		return suspected
	default:
		return unknown
	}
}

// send hands a row to the publisher, which takes it only until its round is over.
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

// narrow finds the suspect that the broker refuses, when nothing else of their lane is
// on its way: each goes out once more, alone.
func (r *Relay) narrow(l *lane) {
	suspects := l.suspects
	if l.onTheWay > 0 || l.narrowing > 0 || len(suspects) == 0 {
		return
	}
	l.suspects, l.narrowing = nil, len(suspects)
	for _, s := range suspects {
		r.expect(s)
	}
	go func() {
		for _, s := range suspects {
			s.err = r.pub.Publish(r.life, s.route, s.message)
			s.alone = true
			r.results <- s
		}
	}()
}

// expect notes a row whose outcome a goroutine will give.
func (r *Relay) expect(s *sending) {
	r.sendings[s.id] = s
	r.expected++
}

// finish takes an outcome.
func (r *Relay) finish(s *sending) {
	l := s.lane
	r.expected--
	if s.alone {
		l.narrowing--
	} else {
		l.onTheWay--
	}
	if s.result = s.judge(); s.result == suspected {
		l.suspects = append(l.suspects, s)
	} else {
		delete(r.sendings, s.id)
		if s.late {
			l.late--
			r.arrived.add(s)
		}
	}
	r.narrow(l)
	if l.onTheWay+l.late+l.narrowing+len(l.suspects) == 0 {
		delete(r.lanes, l.route)
	}
}

// collect takes the outcomes that are there.
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

// abandon ends what is on its way, and waits for that.
func (r *Relay) abandon() {
	r.stop()
	for r.expected > 0 {
		r.finish(<-r.results)
	}
}
