package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
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
	log      *zap.Logger

	concurrency   int
	prefetch      int
	timeout       time.Duration
	retryInside   time.Duration
	tag           string
	ownQueue      string // the exclusive queue that was declared last
	ownEpoch      *epoch // and the connection that it belongs to
	onSubscribe   func()
	autoAck       bool
	exclusive     bool
	priority      int
	finishToOrder bool // see subscription.drain
	tenure        time.Duration

	handlers context.Context // parent of all handlers' contexts
	abort    context.CancelCauseFunc
	draining chan struct{}
	once     sync.Once
	halt     context.CancelFunc // gives up waiting for the broker
	done     chan struct{}

	mu    sync.Mutex
	state error // nil while subscribed
}

// ConsumeOption changes how a [Consumer] works.
type ConsumeOption func(*Consumer)

// Concurrency is how many messages are handled at once. Defaults to 1, at most 65,535.
func Concurrency(n int) ConsumeOption { return func(c *Consumer) { c.concurrency = n } }

// Prefetch is how many unsettled messages the broker sends ahead. Defaults to the
// concurrency, at most 65,535. Small is good: everything prefetched counts an attempt when the
// connection drops, and overtakes messages of higher priority.
func Prefetch(n int) ConsumeOption { return func(c *Consumer) { c.prefetch = n } }

// HandlerTimeout is the deadline of each handler. Defaults to 30 s. It must be
// well below the queue's consumer timeout, after which the broker gives the
// message to somebody else without counting an attempt.
func HandlerTimeout(d time.Duration) ConsumeOption { return func(c *Consumer) { c.timeout = d } }

// RetryInProcess repeats a failing handler with backoff for this long before its
// error becomes [Permanent]. It is for queues that must keep order, on which a
// message that went back would be overtaken, and defaults to 75 s where the queue
// has a single active consumer, else to 0. Each try has its own handler timeout.
func RetryInProcess(d time.Duration) ConsumeOption { return func(c *Consumer) { c.retryInside = d } }

// ConsumerTag names the consumer in the management UI. Defaults to a unique name.
func ConsumerTag(tag string) ConsumeOption { return func(c *Consumer) { c.tag = tag } }

// ConsumerPriority makes this consumer get messages before those with a lower
// one, as long as it has room (https://www.rabbitmq.com/docs/consumer-priority).
// Defaults to 0. Refused on a queue with a single active consumer: RabbitMQ 4.3
// keeps one that dies while a higher one is taking over, and later makes that ghost
// the active consumer for ever; see DESIGN.md.
func ConsumerPriority(n int) ConsumeOption { return func(c *Consumer) { c.priority = n } }

// Tenure is how long a consumer of a queue with a single active consumer stays the
// active one, about: after it the consumer goes behind the others that wait, with
// the acknowledgement of a message, so order holds. That spreads many such queues
// over the replicas; without it the one that starts first would be active for all.
// Each time is drawn anew, between half of it and half more. Defaults to one minute;
// zero is for ever.
func Tenure(d time.Duration) ConsumeOption { return func(c *Consumer) { c.tenure = d } }

// ExclusiveConsumer asks to be the queue's only consumer. While there is another
// one, subscribing fails and is tried again. Classic queues without a single active
// consumer only: a quorum queue takes others beside it and says nothing.
func ExclusiveConsumer() ConsumeOption { return func(c *Consumer) { c.exclusive = true } }

// AutoAck takes messages as acknowledged when they are sent: fast, and what the
// handler fails or does not get to is lost. The prefetch has no effect: the broker
// sends all it has, and what the handler does not keep up with waits in this
// process's memory, without bound. Refused on a queue with a single active consumer,
// which hands over with an acknowledgement.
func AutoAck() ConsumeOption { return func(c *Consumer) { c.autoAck = true } }

// OnSubscribe is called after each subscription, before the first delivery: the
// place to drop a cache, since messages may have been missed. It must not block.
func OnSubscribe(f func()) ConsumeOption { return func(c *Consumer) { c.onSubscribe = f } }

// errHandedOver ends a subscription whose tenure is over.
var errHandedOver = errors.New("handed over")

// Consume starts a consumer of a queue that exists already, and returns at once;
// it subscribes in the background. The queue's description says how to settle:
// its delivery limit, its dead-letter exchange, whether it keeps order. It may be
// incomplete, down to the name alone, but what it says must be possible.
//
// It fails for a nil handler, for bad options and descriptions, which the error names,
// and with [ErrClosed].
func (c *Conn) Consume(q Queue, h Handler, opts ...ConsumeOption) (*Consumer, error) {
	g, err := c.ConsumeAll([]Queue{q}, h, opts...)
	if err != nil {
		return nil, err
	}
	return g[0], nil
}

// Listen declares a queue that belongs to this process alone, binds it and
// consumes it with automatic acknowledgement: every instance hears everything,
// while it is there. The server names the queue, and names a new one after a
// reconnect; what was sent in between is missed, see [OnSubscribe]. The
// destination of the bindings is left empty. It fails as [Conn.Consume] does. A handler's error is logged and the
// message is gone. What the handler does not keep up with waits in this process's
// memory, without bound, as with [AutoAck]; the queue's own length does not help.
//
// A queue that you name cannot be declared again until the broker has noticed that
// the connection before is gone; the consumer waits for that.
func (c *Conn) Listen(q Queue, bindings []Binding, h Handler, opts ...ConsumeOption) (*Consumer, error) {
	if err := validateListen(q, bindings); err != nil {
		return nil, err
	}
	consumer, err := c.newConsumer(&Consumer{queue: q, bindings: bindings, handler: h, autoAck: true}, opts)
	if err != nil {
		return nil, err
	}
	if err := c.start(consumer); err != nil {
		return nil, err
	}
	return consumer, nil
}

func (c *Conn) newConsumer(consumer *Consumer, opts []ConsumeOption) (*Consumer, error) {
	q := consumer.queue
	consumer.conn = c
	consumer.log = c.config.Logger.With(zap.String("queue", q.Name))
	consumer.concurrency = 1
	consumer.timeout = 30 * time.Second
	consumer.onSubscribe = func() {}
	consumer.finishToOrder = q.SingleActiveConsumer
	if q.SingleActiveConsumer {
		consumer.retryInside = 75 * time.Second
		consumer.tenure = time.Minute
	}
	for _, opt := range opts {
		opt(consumer)
	}
	if consumer.prefetch == 0 {
		consumer.prefetch = consumer.concurrency
	}
	if consumer.onSubscribe == nil {
		consumer.onSubscribe = func() {}
	}
	if err := consumer.validate(); err != nil {
		return nil, err
	}
	consumer.draining = make(chan struct{})
	consumer.done = make(chan struct{})
	consumer.state = fmt.Errorf("queue %q: not subscribed yet", q.Name)
	return consumer, nil
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

// Ready is nil while the consumer is subscribed, and when its owner has stopped it.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	state := c.state
	c.mu.Unlock()
	if state == nil {
		return nil
	}
	return errors.Join(state, c.link.ready())
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
// context's error without waiting for them.
//
// Giving back counts no attempt, except on a queue with a single active consumer:
// there the message goes back with the closing channel, which keeps its place and
// counts one.
func (c *Consumer) Drain(ctx context.Context) error {
	c.once.Do(func() { close(c.draining); c.halt() })
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.abort(ErrStopping)
		return fmt.Errorf("drain the consumer of %q: %w", c.queue.Name, context.Cause(ctx))
	}
}

// Stop is Drain for those in a hurry: the contexts of running handlers are
// cancelled at once with [ErrStopping], and a message whose handler returns an
// error because of that is given back too.
func (c *Consumer) Stop(ctx context.Context) error {
	c.abort(ErrStopping)
	return c.Drain(ctx)
}

// run subscribes again and again, until Drain or Stop.
func (c *Consumer) run(ctx context.Context) {
	defer close(c.done)
	defer c.conn.forget(c)
	defer c.setState(nil)
	defer c.abort(ErrStopping)
	defer c.link.close(c.handlers) // by Stop, or a Drain that was given up, at once
	for wait := newBackoff(c.conn.config.MaxBackoff); ; {
		ep, err := c.link.await(ctx)
		if err != nil {
			return
		}
		subscribed, err := c.subscribe(ep)
		select {
		case <-c.draining:
			return
		default:
		}
		if errors.Is(err, errHandedOver) {
			continue
		}
		c.setState(fmt.Errorf("queue %q: not subscribed: %w", c.queue.Name, err))
		c.log.Warn("subscription ended, subscribing again", zap.Error(err))
		if subscribed {
			wait.reset()
		}
		if !wait.sleep(ctx) {
			return
		}
	}
}

// subscribe runs one subscription on a channel of its own until it ends. It says
// whether there was one, and why it ended.
func (c *Consumer) subscribe(ep *epoch) (bool, error) {
	ch, err := ep.channel()
	if err != nil {
		return false, err
	}
	defer ep.closeChannel(ch)
	s := &subscription{
		Consumer: c, ep: ep, ch: ch, acks: newAcks(ch, c.prefetch), queueName: c.queue.Name,
		handedOver: make(chan struct{}), ended: make(chan struct{}),
	}
	defer s.acks.stop()
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	cancelled := ch.NotifyCancel(make(chan string, 1))
	if err := ep.guard(s.start); err != nil {
		return false, err
	}
	c.onSubscribe()
	c.setState(nil)

	handlers, cancel := context.WithCancelCause(c.handlers)
	defer cancel(nil)
	var workers sync.WaitGroup
	for range c.concurrency {
		workers.Go(func() { s.work(handlers) })
	}
	var reason error
	select {
	case <-c.draining:
		return true, s.drain(&workers)
	case <-s.handedOver:
		workers.Wait()
		return true, errHandedOver
	case e := <-closed:
		reason = ErrConnectionLost
		if e != nil {
			reason = fmt.Errorf("%w: %w", ErrConnectionLost, e)
		}
	case <-cancelled:
		// Queue deleted, its node gone, or a consumer timeout, after which the
		// channel is not safe to use.
		reason = fmt.Errorf("%w: cancelled by the broker", ErrConnectionLost)
	}
	c.setState(fmt.Errorf("queue %q: not subscribed: %w", c.queue.Name, reason))
	close(s.ended)
	cancel(reason)
	workers.Wait()
	return true, reason
}

// subscription is one basic.consume on one channel of one epoch.
type subscription struct {
	*Consumer
	ep         *epoch
	ch         *amqp.Channel
	acks       *acks
	queueName  string
	deliveries <-chan amqp.Delivery
	leave      time.Time     // when the tenure is over; zero before the first delivery
	handedOver chan struct{} // the last acknowledgement was sent behind a cancel
	ended      chan struct{} // from now on nothing may be settled

	mu       sync.Mutex
	giveBack []amqp.Delivery // to be returned after the cancel, or with the closing channel: see drain
}

// start declares what is ours alone, sets the prefetch and consumes.
func (s *subscription) start() error {
	if s.queue.Exclusive {
		// A subscription before this one has left it on the same connection. Another
		// connection's goes with it; until the broker has noticed, it refuses (405).
		if s.ownEpoch == s.ep {
			if _, err := s.ch.QueueDelete(s.ownQueue, false, false, false); err != nil {
				return fmt.Errorf("delete the exclusive queue of before: %w", err)
			}
		}
		q, err := s.ch.QueueDeclare(s.queue.Name, false, false, true, false, s.queue.arguments())
		if err != nil {
			return fmt.Errorf("declare an exclusive queue: %w", err)
		}
		s.queueName, s.ownQueue, s.ownEpoch = q.Name, q.Name, s.ep
		for _, b := range s.bindings {
			match, err := b.match()
			if err != nil {
				return err
			}
			if err := s.ch.QueueBind(q.Name, b.Key, b.Source, false, match); err != nil {
				return fmt.Errorf("bind %q to %q: %w", q.Name, b.Source, err)
			}
		}
	}
	if err := s.ch.Qos(s.prefetch, 0, false); err != nil {
		return fmt.Errorf("set the prefetch: %w", err)
	}
	if s.tag == "" {
		tag, err := uniqueTag(s.conn.config.Name)
		if err != nil {
			return err
		}
		s.tag = tag
	}
	var arguments amqp.Table
	if s.priority != 0 {
		arguments = amqp.Table{"x-priority": int64(s.priority)} // the library would cut an int
	}
	deliveries, err := s.ch.Consume(s.queueName, s.tag, s.autoAck, s.exclusive, false, false, arguments)
	if err != nil {
		return fmt.Errorf("consume %q: %w", s.queueName, err)
	}
	s.deliveries = deliveries
	return nil
}

// work handles deliveries one after another until the subscription ends or drains.
// What the library still buffers then is left to drain, or to the broker.
func (s *subscription) work(ctx context.Context) {
	for {
		select {
		case <-s.draining:
			return
		case <-s.handedOver:
			return
		case <-s.ended:
			return
		default:
		}
		select {
		case <-s.draining:
			return
		case <-s.ended:
			return
		case d, ok := <-s.deliveries:
			if !ok {
				return
			}
			s.handle(ctx, d)
		}
	}
}

// drain ends the subscription without counting an attempt for anything that was
// not tried. A dropped channel counts one for every unsettled message; only
// cancel, then nack, then close does not.
//
// A queue that keeps order is different. There is at most one unsettled message,
// and from a cancel on the next consumer gets the message behind it. So the
// handler finishes, and its ack is sent right behind a cancel (see settle). A
// message that is not acknowledged goes back with the closing channel: that
// counts an attempt, and is the one way that keeps it in its place.
func (s *subscription) drain(workers *sync.WaitGroup) error {
	if s.finishToOrder {
		workers.Wait()
		return nil
	}
	err := s.ep.guard(func() error { return s.ch.Cancel(s.tag, false) })
	s.setState(fmt.Errorf("queue %q: draining", s.queueName))
	workers.Wait()
	if err != nil {
		return fmt.Errorf("cancel the consumer: %w", err)
	}
	if s.autoAck {
		return nil
	}
	s.acks.flush()
	for d := range s.deliveries { // what the library had buffered; it closes after a cancel
		s.giveBack = append(s.giveBack, d)
	}
	for _, d := range s.giveBack {
		if err := d.Nack(false, true); err != nil {
			return fmt.Errorf("give a message back: %w", err)
		}
	}
	return nil
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
