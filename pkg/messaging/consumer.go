package messaging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.uber.org/zap"
)

// Consumer takes messages from one queue, hands them to its handler and settles
// them by the handler's verdict; see [Handler]. It has a connection of its own, so
// what happens to it over its queue or a message happens to no other. It subscribes
// again, on a new channel, whenever its subscription ends: connection lost, channel
// closed, queue deleted, consumer cancelled by the broker. A queue that does not
// exist yet is waited for.
//
// What was delivered on a subscription that has ended is never acknowledged: the
// broker delivers it again, and the context of its handler is cancelled with
// [ErrConnectionLost]. The next subscription waits for those handlers, so two
// copies of a message are not handled at once by one Consumer. Two Consumers may
// do that, also on a queue with a single active consumer: it is no fence, so
// effects must be idempotent.
//
// A busy consumer holds acknowledgements back, at most 50, a quarter of the prefetch
// and one millisecond, to send many in one frame: what was handled in that time is
// delivered again if the connection breaks.
//
// Safe for concurrent use.
type Consumer struct {
	conn     *Conn
	link     *link // its own
	queue    Queue
	bindings []Binding
	handler  Handler
	batch    BatchHandler // instead of the handler
	config   consumerConfig
	retries  retries
	log      *zap.Logger

	ownQueue   string // the exclusive queue that was declared last
	ownEpoch   *epoch // and the connection that it belongs to
	keepsOrder bool   // see subscription.drain
	away       *away
	trouble    trouble

	handlers context.Context // parent of all handlers' contexts
	abort    context.CancelCauseFunc
	draining chan struct{}
	once     sync.Once
	halt     context.CancelFunc // gives up waiting for the broker
	done     chan struct{}

	mu      sync.Mutex
	state   error    // nil while subscribed
	watches []*watch // of the handlers that may run
}

// errHandedOver ends a subscription whose tenure is over.
var errHandedOver = errors.New("handed over")

// Consume starts a consumer of a queue that exists already, and returns at once;
// it subscribes in the background. The queue's description says how to settle:
// its delivery limit, its dead-letter exchange, whether it keeps order. A description
// that has only the name is enough, and loses nothing: see [Handler].
//
// It fails for a nil handler, for bad options, for a description of which a part is
// wrong, and with [ErrClosed].
func (c *Conn) Consume(q Queue, h Handler, opts ...ConsumeOption) (*Consumer, error) {
	g, err := c.ConsumeAll([]Queue{q}, h, opts...)
	if err != nil {
		return nil, err
	}
	return g[0], nil
}

// ConsumeBatch is [Conn.Consume] for a handler that takes up to size messages at once. The
// prefetch defaults to the size times the concurrency; with twice of that the next batch
// is there already when one is done.
//
// On a queue with a single active consumer order holds also for batches: they come one
// after the other, each in the order of the queue. What is prefetched when the consumer
// stops or its [Tenure] is over goes back with the closing channel, which counts an attempt.
func (c *Conn) ConsumeBatch(q Queue, size int, h BatchHandler, opts ...BatchOption) (*Consumer, error) {
	g, err := c.ConsumeBatchAll([]Queue{q}, size, h, opts...)
	if err != nil {
		return nil, err
	}
	return g[0], nil
}

// Listen declares a queue that belongs to this process alone, binds it and
// consumes it with automatic acknowledgement: every instance hears everything,
// while it is there. The server names the queue, and names a new one after a
// reconnect; what was sent in between is missed, see [OnSubscribe]. The
// destination of the bindings is left empty. A handler's error is logged and the
// message is gone. What the handler does not keep up with waits in this process's
// memory, without bound, as with [AutoAck]; the queue's own length does not help.
//
// A queue that you name cannot be declared again until the broker has noticed that
// the connection before is gone; the consumer waits for that.
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

// newConsumer makes a consumer of its description, and refuses what cannot work.
func (c *Conn) newConsumer(q Queue, bindings []Binding, h Handler, batch BatchHandler, config consumerConfig) (*Consumer, error) {
	if isNil(h) && isNil(batch) {
		return nil, errors.New("messaging: Consume: the handler is nil")
	}
	// A queue of others may be described in part; an exclusive one is declared.
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

// start starts consumers, all or none.
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

// role names the consumer's connection.
func (c *Consumer) role() string {
	if c.queue.Name == "" {
		return "listen"
	}
	return "consume " + c.queue.Name
}

// Ready is nil while the consumer is subscribed and nothing that its handlers need is
// away, and when its owner has stopped it. See [Unavailable].
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

// Drain takes no more messages, lets the running handlers finish and settles
// them, and gives back what they had not begun. When ctx is done first, the
// handlers' contexts are cancelled as [Consumer.Stop] does, and Drain returns the
// context's error without waiting for them; its text names messages that are still handled.
//
// Giving back counts no attempt, except on a queue with a single active consumer:
// there the message goes back with the closing channel, which keeps its place and
// counts one.
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
		return "no handler runs, the broker does not answer"
	}
	more := ""
	if n := len(ids) - maxNamed; n > 0 {
		ids, more = ids[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return "still handled: " + strings.Join(ids, ", ") + more
}

func (c *Consumer) setWatches(watches []*watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watches = watches
}

// Stop is Drain for those in a hurry: the contexts of running handlers are
// cancelled at once with [ErrStopping], and a message whose handler returns an
// error because of that is given back too.
func (c *Consumer) Stop(ctx context.Context) error {
	c.takeNoMore() // before a worker is free for another one
	c.abort(ErrStopping)
	return c.Drain(ctx)
}

func (c *Consumer) takeNoMore() { c.once.Do(func() { close(c.draining); c.halt() }) }

// run subscribes again and again, until Drain or Stop.
func (c *Consumer) run(ctx context.Context) {
	defer close(c.done)
	defer c.conn.forget(c)
	defer c.setState(nil)
	defer c.away.end()
	defer c.abort(ErrStopping)
	defer c.link.close(c.handlers) // by Stop, or a Drain that was given up, at once
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
			c.setState(nil) // away says it
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
