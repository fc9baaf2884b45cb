package messaging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.uber.org/zap"
)

// Consumer takes messages from one queue, passes them to its handler and settles them as
// the handler's error says; see [Handler]. It has a connection of its own, so that a problem
// with its queue or with one message does not affect other consumers. It subscribes again,
// on a new channel, whenever its subscription ends: because the connection was lost, the
// channel closed, the queue deleted, or the consumer cancelled by the broker. It waits for a
// queue that does not exist yet.
//
// Messages of a subscription that has ended are never acknowledged: the broker delivers
// them again, and the contexts of their handlers are cancelled with [ErrConnectionLost]. The
// next subscription waits for those handlers, so one Consumer never handles two copies of a
// message at the same time. Two Consumers may do that, even on a queue with a single active
// consumer: the broker may make the second one active while a handler of the first still
// runs. So effects must be idempotent.
//
// A busy consumer collects acknowledgements, to send many in one frame: at most 50, at most
// a quarter of the prefetch, and for at most one millisecond. Messages that were handled in
// that time are delivered again if the connection is lost.
//
// Safe for concurrent use.
type Consumer struct {
	conn     *Conn
	link     *link // its own connection
	queue    Queue
	bindings []Binding
	handler  Handler
	batch    BatchHandler // in place of the handler
	config   consumerConfig
	retries  retries
	log      *zap.Logger

	ownQueue   string // the exclusive queue that was declared last
	ownEpoch   *epoch // the connection of that queue
	keepsOrder bool   // see subscription.drain
	away       *away
	trouble    trouble

	handlers context.Context // parent of all handlers' contexts
	abort    context.CancelCauseFunc
	draining chan struct{}
	once     sync.Once
	halt     context.CancelFunc // stops waiting for the broker
	done     chan struct{}

	mu      sync.Mutex
	state   error    // nil while subscribed
	watches []*watch // of the workers, see watch.go
}

// errHandedOver ends a subscription whose [Tenure] is over.
var errHandedOver = errors.New("handed over")

// Consume starts a consumer of a queue that others declare, and returns at once; it
// subscribes in the background. From the description of the queue the consumer knows how to
// settle messages: the delivery limit, the dead-letter exchange, and whether order must be
// kept. A description with only the name is enough and loses no messages: see [Handler].
//
// It fails for a nil handler, for options that are out of range, for a description that is
// invalid, and with [ErrClosed].
func (c *Conn) Consume(q Queue, h Handler, opts ...ConsumeOption) (*Consumer, error) {
	g, err := c.ConsumeAll([]Queue{q}, h, opts...)
	if err != nil {
		return nil, err
	}
	return g[0], nil
}

// ConsumeBatch is [Conn.Consume] for a handler that takes up to size messages at once. The
// prefetch defaults to size times concurrency. With twice as much the next batch has already
// been delivered when one is done.
//
// On a queue with a single active consumer batches keep the order too: they are handled one
// after the other, each in the order of the queue. Messages that are prefetched when the
// consumer stops or its [Tenure] is over go back when the channel is closed, which counts as
// an attempt.
func (c *Conn) ConsumeBatch(q Queue, size int, h BatchHandler, opts ...BatchOption) (*Consumer, error) {
	g, err := c.ConsumeBatchAll([]Queue{q}, size, h, opts...)
	if err != nil {
		return nil, err
	}
	return g[0], nil
}

// Listen declares an exclusive queue, binds it and consumes it with automatic
// acknowledgement, so that every running instance of a program gets every message. The
// broker names the queue. After a reconnect there is a new queue with a new name; messages
// that were published in between are missed, see [OnSubscribe]. Leave the destination of the
// bindings empty. When the handler returns an error it is logged, and the message is lost.
// Messages that come faster than the handler works wait in the memory of this process,
// without limit, as with [AutoAck]; the queue's MaxLength does not limit them.
//
// A queue may have a name of yours. After a lost connection it can be declared again only
// when the broker has noticed the loss; the consumer waits for that.
func (c *Conn) Listen(q Queue, bindings []Binding, h Handler, opts ...ListenOption) (*Consumer, error) {
	if err := validateListen(q, bindings); err != nil {
		return nil, err
	}
	config, err := newConsumerConfig(q, 1, true, opts)
	if err != nil {
		return nil, err
	}
	consumer, err := c.newConsumer(q, bindings, h, nil, config)
	if err != nil {
		return nil, err
	}
	if err := c.start(consumer); err != nil {
		return nil, err
	}
	return consumer, nil
}

// newConsumer makes a consumer that is not started yet. It refuses what cannot work.
func (c *Conn) newConsumer(q Queue, bindings []Binding, h Handler, batch BatchHandler, config consumerConfig) (*Consumer, error) {
	if isNil(h) && isNil(batch) {
		return nil, errors.New("messaging: Consume: the handler is nil")
	}
	// An exclusive queue is declared, so its description must be complete.
	if err := q.validate(q.Exclusive); err != nil {
		return nil, err
	}
	if config.tag == "" {
		tag, err := uniqueTag(c.config.Name)
		if err != nil {
			return nil, err
		}
		config.tag = tag
	}
	log := c.config.Logger.With(zap.String("queue", q.Name))
	return &Consumer{
		conn:       c,
		queue:      q,
		bindings:   bindings,
		handler:    h,
		batch:      batch,
		config:     config,
		retries:    retriesOf(q),
		log:        log,
		keepsOrder: q.SingleActiveConsumer,
		away:       newAway(q.Name, log, c.config.observers),
		trouble:    trouble{log: log, fails: "subscription ended, trying again", works: "subscribed again"},
		draining:   make(chan struct{}),
		done:       make(chan struct{}),
		state:      fmt.Errorf("queue %q: not subscribed yet", q.Name),
	}, nil
}

// start starts all of the consumers, or none when the Conn is closed.
func (c *Conn) start(consumers ...*Consumer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.consumers = append(c.consumers, consumers...)
	for _, consumer := range consumers {
		consumer.handlers, consumer.abort = context.WithCancelCause(context.Background())
		ctx, halt := context.WithCancel(context.Background())
		consumer.halt = halt
		consumer.link = startLink(c.config, consumer.role())
		go consumer.run(ctx)
	}
	return nil
}

// role is part of the name of the consumer's connection.
func (c *Consumer) role() string {
	if c.queue.Name == "" {
		return "listen"
	}
	return "consume " + c.queue.Name
}

// Ready is nil while the consumer is subscribed and no handler says that something it needs
// is [Unavailable]. It is also nil after the consumer was stopped.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	state := c.state
	c.mu.Unlock()
	if state != nil {
		state = errors.Join(state, c.link.ready())
	}
	return errors.Join(state, c.away.state())
}

func (c *Consumer) setState(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = err
}

// Done is closed when the consumer has stopped.
func (c *Consumer) Done() <-chan struct{} { return c.done }

// Drain stops taking messages, waits until the running handlers have finished and their
// messages are settled, and gives back those that no handler has begun. When ctx is done
// first, the handlers' contexts are cancelled as [Consumer.Stop] does, and Drain returns the
// context's error without waiting for them; the text of the error names messages that are
// still being handled.
//
// Giving back does not count as an attempt, except on a queue with a single active consumer:
// there the message goes back when the channel is closed. That keeps its place in the queue
// and counts as an attempt.
func (c *Consumer) Drain(ctx context.Context) error {
	c.takeNoMore()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.abort(ErrStopping)
		return fmt.Errorf("drain the consumer of %q: %w", c.queue.Name, ended(ctx, c.busyWith()))
	}
}

// maxNamed is how many messages an error names.
const maxNamed = 5

// busyWith says what a drain waits for.
func (c *Consumer) busyWith() string {
	c.mu.Lock()
	ids := handling(c.watches)
	c.mu.Unlock()
	if len(ids) == 0 {
		return "no handler is running, the broker does not answer"
	}
	more := ""
	if n := len(ids) - maxNamed; n > 0 {
		ids, more = ids[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return "still being handled: " + strings.Join(ids, ", ") + more
}

func (c *Consumer) setWatches(watches []*watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watches = watches
}

// Stop is [Consumer.Drain] without waiting for long: the contexts of running handlers are
// cancelled at once with [ErrStopping], and a message whose handler returns an error because
// of that is given back too.
func (c *Consumer) Stop(ctx context.Context) error {
	c.takeNoMore() // first, so that no worker begins with another message
	c.abort(ErrStopping)
	return c.Drain(ctx)
}

func (c *Consumer) takeNoMore() { c.once.Do(func() { close(c.draining); c.halt() }) }

// run subscribes, again whenever a subscription ends, until Drain or Stop.
func (c *Consumer) run(ctx context.Context) {
	defer close(c.done)
	defer c.conn.forget(c)
	defer c.setState(nil)
	defer c.away.end()
	defer c.abort(ErrStopping)
	defer c.link.close(c.handlers) // at once after Stop, or after a Drain whose context has ended
	for wait := newBackoff(c.conn.config.MaxBackoff); ; {
		ep, err := c.link.await(ctx)
		if err != nil {
			return
		}
		subscribed, err := c.subscribe(ctx, ep)
		if isDone(c.draining) {
			return
		}
		c.away.tell()
		if subscribed {
			wait.reset()
		}
		switch {
		case errors.Is(err, errHandedOver), errors.Is(err, errBack):
			continue
		case errors.Is(err, errAway):
			c.setState(nil) // Ready has the reason from c.away
			if !c.away.sleep(ctx) {
				return
			}
			continue
		}
		c.setState(fmt.Errorf("queue %q: not subscribed: %w", c.queue.Name, err))
		c.trouble.note(err)
		if !wait.sleep(ctx) {
			return
		}
	}
}
