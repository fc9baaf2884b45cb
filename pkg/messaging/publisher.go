package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Publisher publishes with confirms. Many messages may be on their way at the same time,
// and each gets its own outcome. It goes on after a reconnect. While the broker is away or
// blocks the connection, publishing waits until the connection is usable or the context is
// done.
//
// Each exchange, and on the default exchange each queue, has a lane: a channel of its own.
// When the broker refuses a message, or does not answer because a queue has no leader, only
// messages in the same lane wait. There may be 64 lanes at the same time; a message that
// needs one more waits until one of them is idle.
//
// Safe for concurrent use. Messages of one goroutine to one route are sent in order.
type Publisher struct {
	conn    *Conn
	config  publisherConfig
	answers func(amqp.Delivery) // of a [Caller]: gets the answers that come on the lanes' channels
	owner   sender              // the [Caller], or the publisher itself

	lanes   *lanes
	life    context.Context // ends with ErrClosed; then nothing is waited for any more
	stop    context.CancelCauseFunc
	running sync.WaitGroup // the lanes, and goroutines that close their connections
	once    sync.Once
	done    chan struct{}
}

// Publisher makes a publisher. A publisher opens a channel for each exchange or queue that
// it publishes to, and keeps it until the publisher is closed. So make few publishers, and
// close those that are not used any more; see [ErrTooManyChannels]. The call does not block,
// and fails only for an option that is out of its range.
func (c *Conn) Publisher(opts ...PublisherOption) (*Publisher, error) {
	config, err := newPublisherConfig(opts)
	if err != nil {
		return nil, err
	}
	p := c.newPublisher(config)
	c.adopt(p)
	return p, nil
}

func (c *Conn) newPublisher(config publisherConfig) *Publisher {
	p := &Publisher{conn: c, config: config, done: make(chan struct{})}
	p.owner = p
	p.life, p.stop = context.WithCancelCause(context.Background())
	p.lanes = newLanes(maxLanes, func(l *lane) { p.running.Go(func() { p.run(l) }) })
	return p
}

// Publish sends a message and waits until the broker has confirmed it: for a
// quorum queue, until a majority has it on disk. nil says that every queue it was
// routed to has it. It does not say that anybody consumed it.
//
// Errors: [ErrUnroutable], [ErrNacked], [ErrRefused] and [ErrConnectionLost], which say in
// their documentation whether the message may be stored; [ErrTooManyChannels];
// [ErrClosed]; and the error of ctx, after which the outcome is unknown unless the text says
// "not sent". A message that cannot be carried is an [ErrInvalid], before anything is sent:
// see [Message].
func (p *Publisher) Publish(ctx context.Context, route Route, m Message, opts ...PublishOption) error {
	return p.PublishAsync(ctx, route, m, opts...).Wait(ctx)
}

// PublishAsync sends a message and returns as soon as it is on its way; the
// [Confirmation] gets the outcome. It blocks while the window is full, while the connection
// is down or blocked by the broker, and while the first message on a new channel has no
// outcome yet; but no longer than until ctx is done.
func (p *Publisher) PublishAsync(ctx context.Context, route Route, m Message, opts ...PublishOption) *Confirmation {
	config := newPublishConfig(opts)
	to := p.conn.config.observers
	c := &Confirmation{
		message:   m,
		route:     route,
		mandatory: p.config.confirms && !config.allowUnroutable,
		started:   time.Now(),
		observers: to,
	}
	if m.AppID == "" {
		m.AppID = p.conn.config.AppID
	}
	if m.UserID == "" {
		m.UserID = p.conn.user
	}
	if len(to.publish) > 0 {
		m, c.finish = to.publishing(ctx, route, m, false)
	}
	if err := validate(route, &m, limits{size: p.conn.config.MaxMessageSize, received: config.asReceived}); err != nil {
		c.resolve(fmt.Errorf("publish %s: %w", m.ID, err))
		return c
	}
	onItsWay := c
	if !p.config.confirms {
		onItsWay = &Confirmation{message: Message{ID: m.ID}, route: route} // nobody gets its outcome
	}
	err := p.send(ctx, onItsWay, &m)
	switch {
	case err == nil && p.config.confirms:
		return c
	case err == nil, errors.Is(err, ErrClosed):
	case errors.Is(err, ErrConnectionLost), errors.Is(err, ErrTooManyChannels):
		err = fmt.Errorf("publish %s: %w", m.ID, err)
	default:
		err = fmt.Errorf("publish %s: not sent: %w", m.ID, err)
	}
	c.resolve(err)
	return c
}

// send puts a message on its way, in the lane of its route.
func (p *Publisher) send(ctx context.Context, c *Confirmation, m *Message) error {
	if p.conn.record != nil {
		p.conn.record(p, c.route, *m)
		return nil
	}
	l, err := p.lanes.take(ctx, c.route, time.Now())
	if err != nil {
		return err
	}
	if err := l.send(ctx, c, m); err != nil {
		p.lanes.release(l)
		return err
	}
	return nil // released when the outcome is known
}

// PublishBatch sends messages to one route and waits for the confirms of all of them. This
// takes about as long as one confirm. The error is a *[BatchError], which says which of them
// failed and why; all others are stored. It does no harm to publish the whole batch again
// after an error: consumers recognise the ids.
func (p *Publisher) PublishBatch(ctx context.Context, route Route, messages []Message, opts ...PublishOption) error {
	confirmations := make([]*Confirmation, len(messages))
	for i, m := range messages {
		confirmations[i] = p.PublishAsync(ctx, route, m, opts...)
	}
	var failed []FailedMessage
	for i, c := range confirmations {
		if err := c.Wait(ctx); err != nil {
			failed = append(failed, FailedMessage{Index: i, MessageID: messages[i].ID, Err: err})
		}
	}
	if failed == nil {
		return nil
	}
	return &BatchError{Messages: len(messages), Failed: failed}
}

// Close refuses new messages, waits for the outstanding confirms until ctx is done, and
// closes the channels. Messages that are unconfirmed then get [ErrConnectionLost], and
// Close returns the error of ctx.
func (p *Publisher) Close(ctx context.Context) error {
	p.lanes.close()
	p.once.Do(func() {
		go func() {
			p.running.Wait()
			p.stop(ErrClosed)
			p.conn.dismiss(p.owner)
			close(p.done)
		}()
	})
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if isDone(p.done) { // both have happened
		return nil
	}
	var open int64
	p.lanes.each(func(l *lane) { open += l.users.Load() })
	p.stop(ErrClosed)
	return fmt.Errorf("close the publisher: %w", ended(ctx, fmt.Sprintf("%d messages have no outcome", open)))
}

// Confirms says whether the publisher waits for confirms: see [WithoutConfirms].
func (p *Publisher) Confirms() bool { return p.config.confirms }

// ready is an error when the broker blocks the own connection of a lane.
func (p *Publisher) ready() (err error) {
	p.lanes.each(func(l *lane) {
		if s, _ := l.session.get(); s != nil && s.own && s.ep.missing() != "" {
			err = errors.New(s.ep.missing())
		}
	})
	return err
}
