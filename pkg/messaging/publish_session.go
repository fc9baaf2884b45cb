package messaging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// overdue is for how long run waits for one confirm before it looks at the others.
const overdue = 10 * time.Millisecond

// A session is a publisher's life on one channel of one epoch. Senders write, one
// at a time; the goroutine in run takes the outcomes, about in the order of sending,
// and frees their places in the window. Whoever waits for an outcome may settle it
// sooner.
type session struct {
	*Publisher
	ep       *epoch
	ch       *amqp.Channel
	closed   <-chan *amqp.Error
	returns  <-chan amqp.Return
	places   chan struct{}      // one taken by each message on its way
	inflight chan *Confirmation // oldest first; those that are overdue, again at the end
	ended    chan struct{}      // closed when nothing is sent any more

	confirmed atomic.Bool // something was

	mu     sync.Mutex
	over   bool // nothing is sent any more
	reason error
	ids    map[string]*Confirmation // on their way, by message id
}

// errSessionOver says that nothing was sent, and the next session may.
var errSessionOver = errors.New("session over")

// open opens a channel. The broker counts publishes from confirm.select on, so
// nothing is sent before, or every confirm would settle an earlier message than
// its own.
func (p *Publisher) open(ep *epoch) (*session, error) {
	ch, err := ep.channel()
	if err != nil {
		return nil, err
	}
	s := &session{
		Publisher: p,
		ep:        ep,
		ch:        ch,
		closed:    ch.NotifyClose(make(chan *amqp.Error, 1)),
		places:    make(chan struct{}, p.window),
		inflight:  make(chan *Confirmation, p.window),
		ended:     make(chan struct{}),
		ids:       map[string]*Confirmation{},
	}
	if !p.confirms {
		return s, nil
	}
	// Room for everything that can come back, or the library's reader would wait for us.
	s.returns = ch.NotifyReturn(make(chan amqp.Return, p.window))
	if err := ep.guard(func() error { return ch.Confirm(false) }); err != nil {
		ep.closeChannel(ch)
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	return s, nil
}

// run returns nil when the publisher was closed and nothing is outstanding.
func (s *session) run(ctx context.Context) error {
	closing := s.closing
	late := time.NewTimer(overdue)
	defer late.Stop()
	for {
		if closing == nil && s.finish() {
			s.ep.closeChannel(s.ch)
			return nil
		}
		select {
		case c := <-s.inflight:
			if !isDone(c.wire.Done()) {
				late.Reset(overdue)
				select {
				case <-c.wire.Done():
				case <-late.C:
					s.inflight <- c // there is room: it still has its place
					s.sweep()
					continue
				case <-ctx.Done():
					s.inflight <- c
					s.end(context.Cause(ctx))
					return context.Cause(ctx)
				}
			}
			s.settle(c)
			<-s.places
		case <-closing:
			closing = nil
		case reason := <-s.closed:
			s.end(ended(reason))
			return s.reason
		case <-ctx.Done():
			s.end(context.Cause(ctx))
			return context.Cause(ctx)
		}
	}
}

// sweep settles what has its confirm behind one that is overdue. Each queue confirms
// in its own time: one that does not, whose leader is gone, must not hold the window.
func (s *session) sweep() {
	for range len(s.inflight) {
		c := <-s.inflight
		if !isDone(c.wire.Done()) {
			s.inflight <- c
			continue
		}
		s.settle(c)
		<-s.places
	}
}

// finish ends the session if nothing is on its way.
func (s *session) finish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inflight) > 0 {
		return false
	}
	s.over = true
	close(s.ended)
	return true
}

// end settles what is left. The library gives an outcome to everything when its
// channel closes.
func (s *session) end(reason error) {
	s.mu.Lock()
	s.over = true
	if s.reason == nil {
		s.reason = reason
	}
	close(s.ended)
	s.mu.Unlock()
	s.ep.closeChannel(s.ch)
	for {
		select {
		case c := <-s.inflight:
			<-c.wire.Done()
			s.settle(c)
		default:
			return
		}
	}
}

// ended makes an error of the reason for which a channel has ended.
func ended(reason *amqp.Error) error {
	switch {
	case reason == nil:
		return ErrClosed
	case reason.Server && slices.Contains([]int{amqp.AccessRefused, amqp.NotFound, amqp.PreconditionFailed}, reason.Code):
		return fmt.Errorf("%w: %w", ErrRefused, reason)
	default:
		return reason
	}
}

// send writes a message when there is a place in the window and no other with its
// id on the way: a return names its message by the id alone.
func (s *session) send(ctx context.Context, c *Confirmation, m *Message) error {
	if !s.confirms {
		_, err := s.write(c, m)
		return s.elsewhere(ctx, err)
	}
	select {
	case s.places <- struct{}{}:
	case <-s.ended:
		return errSessionOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		same, err := s.write(c, m)
		if same == nil {
			if err != nil {
				<-s.places
			}
			return s.elsewhere(ctx, err)
		}
		select {
		case <-same.wire.Done():
			s.settle(same)
		case <-ctx.Done():
			<-s.places
			return context.Cause(ctx)
		}
	}
}

// write hands a message to the library. With another one of the same id on its
// way it gives that back and writes nothing.
func (s *session) write(c *Confirmation, m *Message) (same *Confirmation, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, amqp.ErrClosed
	}
	if same := s.ids[c.id]; same != nil {
		return same, nil
	}
	wire, err := s.ch.PublishWithDeferredConfirm(c.route.Exchange, c.route.Key, c.mandatory, false, publishing091(m))
	if err != nil || !s.confirms {
		return nil, err
	}
	c.session, c.wire = s, wire
	s.ids[c.id] = c
	s.inflight <- c // there is room: it is as large as the window
	return nil, nil
}

// elsewhere turns the error of a closed channel, on which nothing was sent, into
// errSessionOver, when the session has noticed too. After any other the fate of
// the message is not known.
func (s *session) elsewhere(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, amqp.ErrClosed):
		return fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
	select {
	case <-s.ended:
		return errSessionOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settle sets the outcome of a message whose confirm has come, or never will.
func (s *session) settle(c *Confirmation) {
	s.mu.Lock()
	if c.settled {
		s.mu.Unlock()
		return
	}
	s.collect() // a return comes before the confirm of its message: it is here already
	delete(s.ids, c.id)
	switch {
	case c.wire.Acked():
		s.confirmed.Store(true)
		if c.returned != nil {
			c.err = c.returned
		}
	case !s.ch.IsClosed():
		c.err = fmt.Errorf("publish %s: %w", c.id, ErrNacked)
	default:
		c.err = fmt.Errorf("publish %s: %w: %w", c.id, ErrConnectionLost, s.why())
	}
	c.settled = true
	s.mu.Unlock()
	c.tell()
}

// collect joins the returns that have arrived with their messages.
func (s *session) collect() {
	for {
		select {
		case r, ok := <-s.returns:
			if !ok {
				s.returns = nil
			} else if c := s.ids[r.MessageId]; c != nil {
				c.returned = returned(r)
			}
		default:
			return
		}
	}
}

// why is the reason for which the channel was closed.
func (s *session) why() error {
	if s.reason == nil {
		select {
		case reason := <-s.closed:
			s.reason = ended(reason)
		default:
			s.reason = ErrClosed
		}
	}
	return s.reason
}

func returned(r amqp.Return) *ReturnedError {
	return &ReturnedError{
		MessageID: r.MessageId,
		Route:     Route{Exchange: r.Exchange, Key: r.RoutingKey},
		Code:      r.ReplyCode,
		Text:      r.ReplyText,
	}
}
