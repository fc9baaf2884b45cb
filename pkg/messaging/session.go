package messaging

import (
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// overdue is for how long run waits for the oldest confirm before it looks at the others.
	overdue = 10 * time.Millisecond
	// sharedWindow is how many messages of a lane may await their confirm on the shared
	// connection. When a channel has more than 32 unconfirmed messages at one quorum queue
	// (quorum_commands_soft_limit), the broker gives it no more credit. When one channel
	// has used up its credit of 400 messages, the broker reads nothing more from the whole
	// connection.
	sharedWindow = 32
)

// A session is the use of one channel by a lane, until the channel ends. Senders write, one
// at a time. The goroutine of run takes the outcomes, about in the order of sending, and
// frees their places in the window. A goroutine that waits for an outcome may settle it
// before run does.
//
// Until the first message has its outcome, no other one is sent. So when the broker closes
// the channel because of it, it is known which message was the reason.
type session struct {
	*Publisher
	lane     *lane
	ep       *epoch
	own      bool // the connection is the lane's own
	ch       *amqp.Channel
	closed   <-chan *amqp.Error
	returns  <-chan amqp.Return
	places   chan struct{}      // the window: each message on its way takes a place
	first    chan struct{}      // taken by the first message
	proven   chan struct{}      // closed when the first message has its outcome
	inflight chan *Confirmation // oldest first; overdue ones are put back at the end
	look     chan struct{}      // asks run to check whether to change the connection

	ended chan struct{} // closed when nothing is sent any more

	mu      sync.Mutex
	refused *rejection               // why and over which route, if one message has ended it; read after ended
	ids     map[string]*Confirmation // mandatory messages on their way, by message id
	calls   int                      // requests sent here that are not answered yet
}

// errSessionOver says that the session has ended and nothing was sent. The next session may
// send the message.
var errSessionOver = errors.New("session over")

// openSession opens a channel. The broker counts messages from confirm.select on, so nothing
// may be sent before: each confirm would be taken for that of an earlier message.
func (p *Publisher) openSession(l *lane, ep *epoch, own bool) (*session, error) {
	ch, err := ep.channel()
	if err != nil {
		return nil, err
	}
	window := p.config.window
	if !own || p.answers != nil {
		window = min(window, sharedWindow)
	}
	s := &session{
		Publisher: p,
		lane:      l,
		ep:        ep,
		own:       own,
		ch:        ch,
		closed:    ch.NotifyClose(make(chan *amqp.Error, 1)),
		// As large as the window, so that the library's reader never has to wait.
		returns:  ch.NotifyReturn(make(chan amqp.Return, window)),
		places:   make(chan struct{}, window),
		first:    make(chan struct{}, 1),
		proven:   make(chan struct{}),
		inflight: make(chan *Confirmation, window),
		look:     make(chan struct{}, 1),
		ended:    make(chan struct{}),
		ids:      map[string]*Confirmation{},
	}
	if err := ep.guard(s.prepare); err != nil {
		ep.release(ch)
		return nil, err
	}
	return s, nil
}

// prepare selects confirms. On a caller's channel it also consumes the answers.
func (s *session) prepare() error {
	if err := s.ch.Confirm(false); err != nil {
		return fmt.Errorf("select confirms: %w", err)
	}
	if s.answers == nil {
		return nil
	}
	answers, err := s.ch.Consume(directReplyTo, "", true, true, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume answers: %w", err)
	}
	go func() { // until the channel is closed
		for d := range answers {
			s.answers(d)
		}
	}()
	return nil
}

// run takes outcomes until the session ends. It returns nil when nothing is on its way and
// the lane has ended or changes its connection.
func (s *session) run() error {
	late := time.NewTimer(overdue)
	defer late.Stop()
	over := s.lane.over
	move := mover{session: s}
	move.look() // needsOwn may be set already
	for {
		if move.done || s.mayLeave() && s.finish() {
			return nil
		}
		select {
		case c := <-s.inflight:
			if over, reason := s.take(c, late); over {
				return reason
			}
		case <-over:
			over = nil
		case <-s.look:
			move.look()
		case <-move.changed:
			move.look()
		case <-move.again:
			move.look()
		case reason := <-s.closed:
			return s.end(reason)
		case <-s.life.Done():
			return s.end(nil)
		}
	}
}

// take waits for the confirm of a message and settles it. When that is overdue it looks at
// the others. It says whether the session has ended meanwhile, and why.
func (s *session) take(c *Confirmation, late *time.Timer) (over bool, reason error) {
	var closed *amqp.Error
	if !isDone(c.wire.Done()) {
		late.Reset(overdue)
		select {
		case <-c.wire.Done():
		case <-late.C:
		case closed = <-s.closed:
			over = true
		case <-s.life.Done():
			over = true
		}
	}
	if !over && isDone(c.wire.Done()) && s.settle(c) {
		<-s.places
		return false, nil
	}
	s.inflight <- c // there is room: the message still has its place
	if over {
		return true, s.end(closed)
	}
	s.sweep()
	return false, nil
}

// sweep settles the messages that are confirmed while an earlier one is overdue. Queues
// confirm independently: one whose leader is gone must not block the whole window.
func (s *session) sweep() {
	for range len(s.inflight) {
		c := <-s.inflight
		if isDone(c.wire.Done()) && s.settle(c) {
			<-s.places
		} else {
			s.inflight <- c
		}
	}
}

// mayLeave says whether the session should end as soon as nothing is on its way: because its
// lane has ended, or needs no connection of its own any more. A caller's session stays on
// its connection, since answers come there.
func (s *session) mayLeave() bool {
	l := s.lane
	if isDone(s.proven) && !l.staysAlone {
		l.alone = false
	}
	return isDone(l.over) || s.own && !l.alone && !l.needsOwn.Load() && s.answers == nil
}

// finish ends the session if nothing is on its way.
func (s *session) finish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inflight) > 0 || s.calls > 0 {
		return false
	}
	s.lane.session.set(nil)
	close(s.ended)
	s.release()
	return true
}

// release closes the channel.
func (s *session) release() {
	s.ep.release(s.ch)
	if !s.own {
		s.conn.channels.put()
	}
}

// end settles the messages that are left, after the channel was closed for the reason: no
// more confirms will come. A nil reason means that the publisher was closed.
func (s *session) end(reason *amqp.Error) error {
	s.mu.Lock()
	s.lane.session.set(nil)
	s.collect()
	var left []*Confirmation
	open := 0
	for len(s.inflight) > 0 {
		c := <-s.inflight
		if c.settled {
			continue
		}
		left = append(left, c)
		if !c.wire.Acked() && c.returned == nil {
			open++
			s.refused = &rejection{reason, c.route}
		}
	}
	if open != 1 || !s.closedOverMessage(reason) {
		s.refused = nil
	}
	why := endError(reason, s.refused != nil)
	for _, c := range left {
		s.setOutcome(c, why)
	}
	close(s.ended)
	s.mu.Unlock()
	for _, c := range left {
		c.report()
	}
	if open > 0 && closesConnection(reason) {
		s.isolate(s.lane, s.own, reason)
	}
	s.release()
	return why
}

// closedOverMessage says whether the only message on its way was the reason.
func (s *session) closedOverMessage(reason *amqp.Error) bool {
	return closesChannel(reason) || s.own && closesConnection(reason)
}
