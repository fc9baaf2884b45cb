package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	session  current[session]

	closing chan struct{} // no more messages
	once    sync.Once
	stop    context.CancelFunc
	done    chan struct{}
}

// PublisherOption changes how a [Publisher] works.
type PublisherOption func(*Publisher)

// WithoutConfirms makes a fire-and-forget publisher: Publish returns when the
// message is in the connection's write buffer, and nobody learns whether it
// arrived. Messages are not mandatory.
func WithoutConfirms() PublisherOption { return func(p *Publisher) { p.confirms = false } }

// Window bounds how many messages may await their confirm at once. Defaults to 1000.
func Window(n int) PublisherOption { return func(p *Publisher) { p.window = max(n, 1) } }

// PublishOption changes one publish.
type PublishOption func(*Confirmation)

// AllowUnroutable confirms a message even though no queue takes it. Without it
// such a message comes back with [ErrUnroutable], unless its exchange has an alternate.
func AllowUnroutable() PublishOption { return func(c *Confirmation) { c.mandatory = false } }

// asReceived passes on what somebody else has sent, as it came.
func asReceived() PublishOption { return func(c *Confirmation) { c.received = true } }

// Publisher makes a publisher with a channel of its own.
func (c *Conn) Publisher(opts ...PublisherOption) *Publisher {
	ctx, stop := context.WithCancel(context.Background())
	p := &Publisher{
		conn:     c,
		confirms: true,
		window:   defaultWindow,
		closing:  make(chan struct{}),
		stop:     stop,
		done:     make(chan struct{}),
	}
	for _, opt := range opts {
		opt(p)
	}
	go p.run(ctx)
	c.adopt(p)
	return p
}

// Publish sends a message and waits until the broker has confirmed it: for a
// quorum queue, until a majority has it on disk. nil says that every queue it was
// routed to has it. It does not say that anybody consumed it.
//
// Errors: [ErrUnroutable], [ErrNacked], [ErrConnectionLost] (outcome unknown), with
// [ErrRefused] where the broker closed the channel, [ErrClosed], and ctx's own,
// which leaves the outcome unknown too. What cannot be carried is an [ErrInvalid],
// before anything is sent: see [Message] for what can.
func (p *Publisher) Publish(ctx context.Context, route Route, m Message, opts ...PublishOption) error {
	return p.PublishAsync(ctx, route, m, opts...).Wait(ctx)
}

// PublishAsync sends a message and returns as soon as it is on its way; the
// [Confirmation] gets the outcome. It blocks while the window is full, the
// connection is down or the broker blocks it, until ctx is done.
func (p *Publisher) PublishAsync(ctx context.Context, route Route, m Message, opts ...PublishOption) *Confirmation {
	if m.AppID == "" {
		m.AppID = p.conn.config.AppID
	}
	if m.UserID == "" {
		m.UserID = p.conn.user
	}
	c := &Confirmation{
		id:        m.ID,
		kind:      m.Type,
		route:     route,
		mandatory: p.confirms,
		started:   time.Now(),
		hooks:     &p.conn.config.Hooks,
	}
	if c.hooks.Publishing != nil {
		m, c.finish = p.conn.publishing(ctx, route, m)
	}
	for _, opt := range opts {
		opt(c)
	}
	if err := validate(route, &m, limits{size: p.conn.config.MaxMessageSize, received: c.received}); err != nil {
		c.resolve(fmt.Errorf("publish %s: %w", m.ID, err))
		return c
	}
	if err := p.send(ctx, c, &m); err != nil {
		c.resolve(err)
	} else if !p.confirms {
		c.resolve(nil)
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
		ep, err := p.conn.publish.epochs.await(ctx, p.closing) // a closing publisher has nothing left to send
		if err != nil {
			return
		}
		s, err := p.open(ep)
		if err == nil {
			p.session.set(s)
			err = s.run(ctx)
			p.session.set(nil)
			if s.confirmed.Load() {
				wait.reset()
			}
		}
		if err == nil {
			return
		}
		p.conn.config.Logger.Debug("publisher channel ended", zap.Error(err))
		if !wait.sleep(ctx) {
			return
		}
	}
}

// send puts a message on its way, in the first session that takes it.
func (p *Publisher) send(ctx context.Context, c *Confirmation, m *Message) error {
	for {
		s, err := p.session.await(ctx, p.closing)
		if err == nil {
			err = s.ep.writable(ctx, p.closing)
		}
		if err == nil {
			err = s.send(ctx, c, m)
		}
		switch {
		case errors.Is(err, errSessionOver):
			continue
		case errors.Is(err, ErrClosed):
			return ErrClosed
		case errors.Is(err, ErrConnectionLost):
			return fmt.Errorf("publish %s: %w", m.ID, err)
		case err != nil:
			return fmt.Errorf("publish %s: not sent: %w", m.ID, err)
		default:
			return nil
		}
	}
}
