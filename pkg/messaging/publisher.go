package messaging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// defaultWindow is how many messages may await their confirm at once.
const defaultWindow = 1000

// Publisher publishes with confirms: many messages may be on their way at once,
// and each gets its own outcome. It survives reconnects; while the broker is away
// or blocks, publishing waits for as long as its context allows.
//
// Safe for concurrent use. Messages of one goroutine are sent in order.
type Publisher struct {
	conn     *Conn
	confirms bool
	window   int
	log      *zap.Logger

	intake  chan *Confirmation
	closing chan struct{} // no more intake
	once    sync.Once
	stop    context.CancelFunc
	done    chan struct{}
}

// PublisherOption changes how a [Publisher] works.
type PublisherOption func(*Publisher)

// WithoutConfirms makes a fire-and-forget publisher: Publish returns when the
// message is written to the socket, and nobody learns whether it arrived.
// Messages are not mandatory.
func WithoutConfirms() PublisherOption { return func(p *Publisher) { p.confirms = false } }

// Window bounds how many messages may await their confirm at once. Defaults to 1000.
func Window(n int) PublisherOption { return func(p *Publisher) { p.window = max(n, 1) } }

// PublishOption changes one publish.
type PublishOption func(*Confirmation)

// AllowUnroutable confirms a message even though no queue takes it. Without it
// such a message comes back with [ErrUnroutable], unless its exchange has an alternate.
func AllowUnroutable() PublishOption { return func(c *Confirmation) { c.mandatory = false } }

// Publisher makes a publisher with a channel of its own.
func (c *Conn) Publisher(opts ...PublisherOption) *Publisher {
	p := c.newPublisher(opts...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.senders = append(c.senders, p)
	return p
}

func (c *Conn) newPublisher(opts ...PublisherOption) *Publisher {
	ctx, stop := context.WithCancel(context.Background())
	p := &Publisher{
		conn:     c,
		confirms: true,
		window:   defaultWindow,
		log:      c.config.Logger,
		intake:   make(chan *Confirmation),
		closing:  make(chan struct{}),
		stop:     stop,
		done:     make(chan struct{}),
	}
	for _, opt := range opts {
		opt(p)
	}
	go p.run(ctx)
	return p
}

// Publish sends a message and waits until the broker has confirmed it: for a
// quorum queue, until a majority has it on disk. nil says that every queue it was
// routed to has it. It does not say that anybody consumed it.
//
// Errors: [ErrUnroutable], [ErrNacked], [ErrConnectionLost] (outcome unknown), with
// [ErrRefused] where the broker closed the channel, [ErrClosed], and ctx's own,
// which leaves the outcome unknown too. What AMQP cannot carry (a message without
// an id, a header of a strange type, a name of more than 255 bytes) is an error
// that names the field, before anything is sent.
func (p *Publisher) Publish(ctx context.Context, route Route, m Message, opts ...PublishOption) error {
	return p.PublishAsync(ctx, route, m, opts...).Wait(ctx)
}

// PublishAsync sends a message and returns as soon as it is on its way; the
// [Confirmation] gets the outcome. It blocks while the window is full, the
// connection is down or the broker blocks it, until ctx is done.
func (p *Publisher) PublishAsync(ctx context.Context, route Route, m Message, opts ...PublishOption) *Confirmation {
	c := &Confirmation{
		ctx:       ctx,
		route:     route,
		message:   p.stamp(m),
		mandatory: p.confirms,
		started:   time.Now(),
		hook:      p.conn.config.Hooks.Published,
		done:      make(chan struct{}),
	}
	for _, opt := range opts {
		opt(c)
	}
	if err := c.validate(); err != nil {
		c.resolve(fmt.Errorf("publish %s: %w", m.ID, err))
		return c
	}
	select {
	case <-p.closing: // first, so that a closed publisher never accepts
		c.resolve(ErrClosed)
		return c
	default:
	}
	select {
	case p.intake <- c:
	case <-ctx.Done():
		c.resolve(fmt.Errorf("publish %s: not sent: %w", m.ID, context.Cause(ctx)))
	case <-p.closing:
		c.resolve(ErrClosed)
	case <-p.done:
		c.resolve(ErrClosed)
	}
	return c
}

// PublishBatch sends messages to one route and waits for all their confirms, in
// the time of about one. The errors are joined; messages that are not named in one
// are stored. After an error publish the whole batch again, if in doubt: consumers
// recognise the ids.
func (p *Publisher) PublishBatch(ctx context.Context, route Route, messages []Message, opts ...PublishOption) error {
	confirmations := make([]*Confirmation, len(messages))
	for i, m := range messages {
		confirmations[i] = p.PublishAsync(ctx, route, m, opts...)
	}
	errs := make([]error, len(messages))
	for i, c := range confirmations {
		errs[i] = c.Wait(ctx)
	}
	return errors.Join(errs...)
}

// stamp fills in who sends.
func (p *Publisher) stamp(m Message) Message {
	if m.AppID == "" {
		m.AppID = p.conn.config.AppID
	}
	if m.UserID == "" {
		m.UserID = p.conn.config.user()
	}
	return m
}

// Close refuses new messages, waits for the outstanding confirms until ctx is
// done, and closes the channel. What is unconfirmed then gets [ErrConnectionLost].
func (p *Publisher) Close(ctx context.Context) error {
	p.once.Do(func() { close(p.closing) })
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.stop()
		return fmt.Errorf("close the publisher: %w", context.Cause(ctx))
	}
}

// run owns the channel, one session after another.
func (p *Publisher) run(ctx context.Context) {
	defer close(p.done)
	defer p.stop()
	for wait := newBackoff(p.conn.config.MaxBackoff); ; {
		ep, err := p.awaitEpoch(ctx)
		if err != nil {
			return
		}
		s := publishing{
			Publisher: p, ep: ep, pending: map[uint64]*Confirmation{}, ids: map[string]bool{}, returned: map[string]*ReturnedError{},
		}
		err = s.run(ctx)
		s.failPending(err)
		if err == nil {
			return
		}
		p.log.Debug("publisher channel ended", zap.Error(err))
		if s.confirmed {
			wait.reset()
		}
		if !wait.sleep(ctx) {
			return
		}
	}
}

// awaitEpoch waits for a connection; a closing publisher has nothing left to send.
func (p *Publisher) awaitEpoch(ctx context.Context) (*epoch, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-p.closing:
			cancel(ErrClosed)
		case <-stopped:
		}
	}()
	return p.conn.publish.await(ctx)
}

// publishing is a publisher's session on one channel of one epoch. One goroutine
// writes, and collects confirms and returns. While it is stuck in a write, the
// two buffers take everything that can still arrive, so the library's reader
// never waits for us.
type publishing struct {
	*Publisher
	ep *epoch
	ch *amqp.Channel

	next      uint64 // delivery tag of the next message, counted as the broker does
	pending   map[uint64]*Confirmation
	ids       map[string]bool           // of what is pending
	held      *Confirmation             // waits until the message with the same id is settled
	returned  map[string]*ReturnedError // by message id, until its confirm comes
	confirmed bool
}

// run returns nil when the publisher was closed and nothing is outstanding.
func (s *publishing) run(ctx context.Context) error {
	ch, err := s.ep.channel()
	if err != nil {
		return err
	}
	s.ch = ch
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	returns := ch.NotifyReturn(make(chan amqp.Return, s.window))
	var confirms chan amqp.Confirmation
	if s.confirms {
		// The broker counts from here on. Nothing is published before, or every
		// confirm would settle an earlier message than its own.
		if err := s.ep.guard(func() error { return ch.Confirm(false) }); err != nil {
			return fmt.Errorf("select confirms: %w", err)
		}
		confirms = ch.NotifyPublish(make(chan amqp.Confirmation, s.window))
	}
	s.next = 1
	closing := s.closing
	for {
		blocked, flipped := s.ep.isBlocked()
		intake := s.intake
		if blocked || len(s.pending) >= s.window || closing == nil || s.held != nil {
			intake = nil
		}
		if closing == nil && len(s.pending) == 0 && s.held == nil {
			s.ep.closeChannel(ch)
			return nil
		}
		select {
		case c := <-intake:
			if err := s.send(c); err != nil {
				return s.finish(err, closed, confirms, returns)
			}
		case confirm, ok := <-confirms:
			if !ok {
				return endOf(closed)
			}
			s.settle(confirm, returns)
			if held := s.held; held != nil && !s.ids[held.message.ID] {
				s.held = nil
				if err := s.send(held); err != nil {
					return s.finish(err, closed, confirms, returns)
				}
			}
		case r, ok := <-returns:
			if !ok {
				return endOf(closed)
			}
			s.keep(r)
		case <-flipped:
		case <-closing:
			closing = nil
		case reason := <-closed:
			s.drain(confirms, returns)
			return ended(reason)
		case <-ctx.Done():
			s.ep.closeChannel(ch)
			return context.Cause(ctx)
		}
	}
}

// finish is for a write that failed: most often the channel has been closed
// already, and the reason of that is on its way. It says more than the write.
func (s *publishing) finish(err error, closed <-chan *amqp.Error, confirms <-chan amqp.Confirmation, returns <-chan amqp.Return) error {
	timer := time.NewTimer(s.ep.callTimeout)
	defer timer.Stop()
	select {
	case reason := <-closed:
		s.drain(confirms, returns)
		return ended(reason)
	case <-timer.C:
		return err
	}
}

// drain settles what was confirmed before the channel ended.
func (s *publishing) drain(confirms <-chan amqp.Confirmation, returns <-chan amqp.Return) {
	if !s.confirms {
		return
	}
	for confirm := range confirms {
		s.settle(confirm, returns)
	}
}

// endOf gives the reason of a channel that is known to have ended.
func endOf(closed <-chan *amqp.Error) error { return ended(<-closed) }

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

func (s *publishing) send(c *Confirmation) error {
	if c.ctx.Err() != nil {
		c.resolve(fmt.Errorf("publish %s: not sent: %w", c.message.ID, context.Cause(c.ctx)))
		return nil
	}
	if s.ids[c.message.ID] {
		s.held = c // a return names its message by the id alone
		return nil
	}
	s.pending[s.next] = c
	err := s.ch.Publish(c.route.Exchange, c.route.Key, c.mandatory, false, publishing091(c.message))
	if err != nil {
		return fmt.Errorf("write: %w", err) // c fails with all that is pending
	}
	if !s.confirms {
		delete(s.pending, s.next)
		c.resolve(nil)
		return nil
	}
	s.ids[c.message.ID] = true
	s.next++
	return nil
}

// collect takes the returns that have arrived, without waiting.
func (s *publishing) collect(returns <-chan amqp.Return) {
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				return
			}
			s.keep(r)
		default:
			return
		}
	}
}

func (s *publishing) keep(r amqp.Return) {
	if !s.confirms {
		return
	}
	s.returned[r.MessageId] = returned(r)
}

func returned(r amqp.Return) *ReturnedError {
	return &ReturnedError{
		MessageID: r.MessageId,
		Route:     Route{Exchange: r.Exchange, Key: r.RoutingKey},
		Code:      r.ReplyCode,
		Text:      r.ReplyText,
	}
}

func (s *publishing) settle(confirm amqp.Confirmation, returns <-chan amqp.Return) {
	s.collect(returns) // a return comes before the confirm of its message: it is here already
	c, ok := s.pending[confirm.DeliveryTag]
	if !ok {
		return
	}
	delete(s.pending, confirm.DeliveryTag)
	delete(s.ids, c.message.ID)
	s.confirmed = true
	returned, wasReturned := s.returned[c.message.ID]
	delete(s.returned, c.message.ID)
	switch {
	case !confirm.Ack:
		c.resolve(fmt.Errorf("publish %s: %w", c.message.ID, ErrNacked))
	case wasReturned:
		c.resolve(returned)
	default:
		c.resolve(nil)
	}
}

func (s *publishing) failPending(reason error) {
	if s.held != nil {
		s.held.resolve(fmt.Errorf("publish %s: not sent: %w", s.held.message.ID, ErrConnectionLost))
	}
	for _, c := range s.pending {
		c.resolve(fmt.Errorf("publish %s: %w: %w", c.message.ID, ErrConnectionLost, reason))
	}
}
