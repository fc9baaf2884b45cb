package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// directReplyTo is the pseudo-queue by which the broker hands answers straight to
// the channel that asked (https://www.rabbitmq.com/docs/direct-reply-to).
const directReplyTo = "amq.rabbitmq.reply-to"

// maxCalls is how many calls of one Caller may be open at once; more wait their turn.
const maxCalls = 1000

// Caller sends calls and gets their answers by direct reply-to: no queue is made,
// and any number of goroutines share its one channel. See [Call].
//
// When the connection is lost all open calls fail with [ErrConnectionLost], since
// their answers are lost with it.
type Caller struct {
	conn    *Conn
	session current[callSession]
	places  chan struct{} // one for each open call
	closing chan struct{}
	once    sync.Once
	done    chan struct{}
	late    atomic.Int64
}

// A callSession is a Caller's life on one channel of one epoch. Callers write, one
// at a time; the goroutine in run hands out the answers.
type callSession struct {
	*Caller
	ep      *epoch
	ch      *amqp.Channel
	closed  <-chan *amqp.Error
	returns <-chan amqp.Return
	answers <-chan amqp.Delivery
	ended   chan struct{} // closed when nothing is sent any more

	mu   sync.Mutex
	over bool
	open map[string]*openCall
}

type openCall struct {
	done   chan struct{}
	answer *Delivery
	err    error
}

// Caller makes a caller with a channel of its own.
func (c *Conn) Caller() *Caller {
	caller := &Caller{
		conn:    c,
		places:  make(chan struct{}, maxCalls),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	go caller.run()
	c.adopt(caller)
	return caller
}

// Late counts the answers that came after their caller had given up.
func (c *Caller) Late() int64 { return c.late.Load() }

// Close fails all open calls with [ErrClosed] and closes the channel.
func (c *Caller) Close(ctx context.Context) error {
	c.once.Do(func() { close(c.closing) })
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the caller: %w", context.Cause(ctx))
	}
}

// call sends a request and waits for its answer. ctx has a deadline.
func (c *Caller) call(ctx context.Context, route Route, m Message) (answer *Delivery, err error) {
	started := time.Now()
	defer func() { c.conn.config.Hooks.Published(route, m.Type, err, time.Since(started)) }()
	m.AppID = c.conn.config.AppID
	m.UserID = c.conn.user
	if c.conn.config.Hooks.Publishing != nil {
		var finish func(error)
		if m, finish = c.conn.publishing(ctx, route, m); finish != nil {
			defer func() { finish(err) }()
		}
	}
	if err := c.conn.validate(route, &m); err != nil {
		return nil, err
	}
	m.ReplyTo = directReplyTo
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-c.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for {
		s, err := c.session.await(ctx, c.closing)
		if err == nil {
			err = s.ep.writable(ctx, c.closing)
		}
		if err != nil {
			return nil, err
		}
		if m.Expiration, err = remaining(ctx); err != nil { // last, for there may have been a long wait
			return nil, err
		}
		call, err := s.send(route, &m)
		if err != nil { // the channel is closed or about to be: nothing was sent
			select {
			case <-s.ended:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		select {
		case <-call.done:
			return call.answer, call.err
		case <-ctx.Done():
			s.take(m.ID)
			return nil, context.Cause(ctx)
		}
	}
}

// remaining is how long an answer is still wanted. What is too late is an error, and
// never sent: without a time to live it would stay for ever.
func remaining(ctx context.Context) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	if left <= 0 { // the context's timer is about to tell
		return 0, context.DeadlineExceeded
	}
	return left, nil
}

func (c *Caller) run() {
	defer close(c.done)
	ctx := context.Background() // closing ends what waits here
	for wait := newBackoff(c.conn.config.MaxBackoff); ; {
		ep, err := c.conn.publish.epochs.await(ctx, c.closing)
		if err != nil {
			return
		}
		s, err := c.openSession(ep)
		if err == nil {
			wait.reset()
			c.session.set(s)
			err = s.run()
			c.session.set(nil)
			s.end(err)
		}
		if isDone(c.closing) {
			return
		}
		c.conn.config.Logger.Debug("caller channel ended", zap.Error(err))
		if !wait.sleepUnless(ctx, c.closing) {
			return
		}
	}
}

// openSession opens a channel and consumes answers on it, before the first request.
func (c *Caller) openSession(ep *epoch) (*callSession, error) {
	ch, err := ep.channel()
	if err != nil {
		return nil, err
	}
	s := &callSession{
		Caller:  c,
		ep:      ep,
		ch:      ch,
		closed:  ch.NotifyClose(make(chan *amqp.Error, 1)),
		returns: ch.NotifyReturn(make(chan amqp.Return, maxCalls)),
		ended:   make(chan struct{}),
		open:    map[string]*openCall{},
	}
	err = ep.guard(func() (err error) {
		s.answers, err = ch.Consume(directReplyTo, "", true, true, false, false, nil)
		return err
	})
	if err != nil {
		ep.closeChannel(ch)
		return nil, fmt.Errorf("consume answers: %w", err)
	}
	return s, nil
}

// run hands out answers until the channel ends or the caller is closed.
func (s *callSession) run() error {
	for {
		select {
		case d, ok := <-s.answers:
			if !ok {
				return ended(<-s.closed)
			}
			s.answer(d)
		case r, ok := <-s.returns:
			if !ok {
				return ended(<-s.closed)
			}
			if call := s.take(r.MessageId); call != nil {
				call.finish(nil, returned(r))
			}
		case reason := <-s.closed:
			return ended(reason)
		case <-s.closing:
			return ErrClosed
		}
	}
}

func (s *callSession) answer(d amqp.Delivery) {
	call := s.take(d.CorrelationId)
	if call == nil {
		s.late.Add(1)
		s.conn.config.Logger.Debug("late answer dropped", zap.String("correlation_id", d.CorrelationId))
		return
	}
	call.finish(newDelivery(d, directReplyTo), nil)
}

// end fails the calls that are open: their answers are lost.
func (s *callSession) end(reason error) {
	if !errors.Is(reason, ErrClosed) || !isDone(s.closing) {
		reason = fmt.Errorf("%w: %w", ErrConnectionLost, reason)
	}
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.over = true
	s.mu.Unlock()
	close(s.ended)
	for _, call := range open {
		call.finish(nil, reason)
	}
	s.ep.closeChannel(s.ch)
}

// send writes a request. An error says that the channel is closed.
func (s *callSession) send(route Route, m *Message) (*openCall, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, ErrClosed
	}
	if err := s.ch.Publish(route.Exchange, route.Key, true, false, publishing091(m)); err != nil {
		return nil, err
	}
	call := &openCall{done: make(chan struct{})}
	s.open[m.ID] = call
	return call, nil
}

// take removes an open call; nil if it is not open any more.
func (s *callSession) take(id string) *openCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := s.open[id]
	delete(s.open, id)
	return call
}

func (c *openCall) finish(answer *Delivery, err error) {
	c.answer, c.err = answer, err
	close(c.done)
}
