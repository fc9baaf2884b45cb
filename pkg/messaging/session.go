package messaging

import (
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// overdue is for how long run waits for one confirm before it looks at the others.
	overdue = 10 * time.Millisecond
	// sharedWindow is how many messages of a lane may await their confirm on the shared
	// connection. With more than that at one quorum queue (quorum_commands_soft_limit)
	// the broker gives the channel no more credit, and when one channel has used up its
	// credit, of 400 messages, nothing more is read from the whole connection.
	sharedWindow = 32
)

// A session is a lane's life on one channel of one epoch. Senders write, one at a
// time; the goroutine in run takes the outcomes, about in the order of sending, and
// frees their places in the window. Whoever waits for an outcome may settle it sooner.
//
// The first message is alone on its way: until it has an outcome no other one is sent.
// So when the broker closes the channel over it, it is known which message that was.
type session struct {
	*Publisher
	lane     *lane
	ep       *epoch
	own      bool // the connection is the lane's own
	ch       *amqp.Channel
	closed   <-chan *amqp.Error
	returns  <-chan amqp.Return
	places   chan struct{}      // one taken by each message on its way
	first    chan struct{}      // taken by the first message
	proven   chan struct{}      // closed when that has its outcome
	inflight chan *Confirmation // oldest first; those that are overdue, again at the end
	look     chan struct{}      // run should look again whether to move

	ended chan struct{} // closed when nothing is sent any more

	mu      sync.Mutex
	refused *rejection               // it has ended over one message; read after ended
	ids     map[string]*Confirmation // mandatory and on their way, by message id
	calls   int                      // sent here, whose answers come here
}

// errSessionOver says that nothing was sent, and the next session may.
var errSessionOver = errors.New("session over")

// openSession opens a channel. The broker counts publishes from confirm.select on, so
// nothing is sent before, or every confirm would settle an earlier message than its
// own.
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
		// Room for everything that can come back, or the library's reader would wait for us.
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

// prepare makes the channel what it is for. A caller's gets the answers too.
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

// run returns nil when nothing is on its way and the lane is over or should move.
func (s *session) run() error {
	late := time.NewTimer(overdue)
	defer late.Stop()
	over := s.lane.over
	move := mover{session: s}
	move.look() // it may have been needsOwn before
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

// take settles the message, or looks at the others while it is overdue. It says whether
// the session has ended meanwhile, and why.
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
	s.inflight <- c // there is room: it still has its place
	if over {
		return true, s.end(closed)
	}
	s.sweep()
	return false, nil
}

// sweep settles what has its confirm behind one that is overdue. Each queue confirms
// in its own time: one that does not, whose leader is gone, must not hold the window.
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

// mayLeave says whether the session should end as soon as nothing is on its way: its
// lane is over, or needs no connection of its own any more. That of a caller stays
// where it is, since later answers come there.
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

// end settles what is left. All confirms that will ever come are here. The reason is
// why the channel was closed; nil says that its owner waits no longer.
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
		c.tell()
	}
	if open > 0 && closesConnection(reason) {
		s.isolate(s.lane, s.own, reason)
	}
	s.release()
	return why
}

// blames says whether the only message on its way was the reason.
func (s *session) closedOverMessage(reason *amqp.Error) bool {
	return closesChannel(reason) || s.own && closesConnection(reason)
}
