package messaging

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

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
	log     *zap.Logger
	intake  chan *openCall
	closing chan struct{}
	once    sync.Once
	done    chan struct{}
	late    atomic.Int64

	mu   sync.Mutex
	open map[string]*openCall
}

type openCall struct {
	ctx     context.Context
	route   Route
	message Message
	done    chan struct{}
	answer  *Delivery
	err     error
}

// Caller makes a caller with a channel of its own.
func (c *Conn) Caller() *Caller {
	caller := &Caller{
		conn:    c,
		log:     c.config.Logger,
		intake:  make(chan *openCall),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		open:    map[string]*openCall{},
	}
	go caller.run()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.senders = append(c.senders, caller)
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

func (c *Caller) call(ctx context.Context, route Route, m Message) (*Delivery, error) {
	m.ReplyTo = directReplyTo
	m.AppID = c.conn.config.AppID
	m.UserID = c.conn.config.user()
	call := &openCall{ctx: ctx, route: route, message: m, done: make(chan struct{})}
	select {
	case c.intake <- call:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.done:
		return nil, ErrClosed
	}
	select {
	case <-call.done:
		return call.answer, call.err
	case <-ctx.Done():
		c.take(m.ID)
		return nil, context.Cause(ctx)
	}
}

// take removes an open call; nil if it is not open any more.
func (c *Caller) take(id string) *openCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.open[id]
	delete(c.open, id)
	return call
}

func (c *Caller) finish(id string, answer *Delivery, err error) bool {
	call := c.take(id)
	if call == nil {
		return false
	}
	call.answer, call.err = answer, err
	close(call.done)
	return true
}

func (c *Caller) failAll(reason error) {
	c.mu.Lock()
	open := c.open
	c.open = map[string]*openCall{}
	c.mu.Unlock()
	for _, call := range open {
		call.err = reason
		close(call.done)
	}
}

func (c *Caller) run() {
	defer close(c.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	closed := make(chan struct{})
	defer func() { <-closed }()
	defer cancel()
	go func() { // the end of closing is the end of ctx
		defer close(closed)
		select {
		case <-c.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for wait := newBackoff(c.conn.config.MaxBackoff); ; {
		ep, err := c.conn.publish.await(ctx)
		if err != nil {
			return
		}
		err = c.session(ctx, ep, wait)
		if ctx.Err() != nil {
			c.failAll(ErrClosed)
			return
		}
		c.failAll(fmt.Errorf("%w: %w", ErrConnectionLost, err))
		c.log.Debug("caller channel ended", zap.Error(err))
		if !wait.sleep(ctx) {
			return
		}
	}
}

// session runs on one channel of one epoch. Requests and answers must use the
// same channel, and the consumer must be there before the first request.
func (c *Caller) session(ctx context.Context, ep *epoch, wait *backoff) error {
	ch, err := ep.channel()
	if err != nil {
		return err
	}
	defer ep.closeChannel(ch)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	returns := ch.NotifyReturn(make(chan amqp.Return, maxCalls))
	var answers <-chan amqp.Delivery
	err = ep.guard(func() (err error) {
		answers, err = ch.Consume(directReplyTo, "", true, true, false, false, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("consume answers: %w", err)
	}
	wait.reset()
	for {
		blocked, flipped := ep.isBlocked()
		intake := c.intake
		if blocked || c.countOpen() >= maxCalls {
			intake = nil
		}
		select {
		case call := <-intake:
			if err := c.send(ch, call); err != nil {
				return err
			}
		case d, ok := <-answers:
			if !ok {
				return endOf(closed)
			}
			if !c.finish(d.CorrelationId, newDelivery(d, directReplyTo), nil) {
				c.late.Add(1)
				c.log.Debug("late answer dropped", zap.String("correlation_id", d.CorrelationId))
			}
		case r, ok := <-returns:
			if !ok {
				return endOf(closed)
			}
			c.finish(r.MessageId, nil, returned(r))
		case <-flipped:
		case reason := <-closed:
			return ended(reason)
		case <-ctx.Done():
			return ErrClosed
		}
	}
}

func (c *Caller) countOpen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

func (c *Caller) send(ch *amqp.Channel, call *openCall) error {
	if call.ctx.Err() != nil {
		return nil // its caller has gone already
	}
	c.mu.Lock()
	c.open[call.message.ID] = call
	c.mu.Unlock()
	err := ch.Publish(call.route.Exchange, call.route.Key, true, false, publishing091(call.message))
	if err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	return nil
}
