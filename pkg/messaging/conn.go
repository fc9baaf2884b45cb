package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Conn is an application's supervised connections to the broker: one on which all its
// publishers and callers publish, and one for each consumer and each reader of a
// stream. They reconnect for ever, until they are closed.
//
// Consumers do not share a connection, because a connection is what the broker and the
// client library end over a single queue or message: over a queue whose leader does not
// answer, or over a message that the library cannot read. And a broker that stops
// reading from publishers still gets acknowledgements.
//
// Safe for concurrent use.
type Conn struct {
	config  Config
	user    string // the broker user, on every message
	publish *link
	life    context.Context // ends with Close, by ErrClosed
	end     context.CancelCauseFunc

	mu        sync.Mutex
	closed    bool // takes no more consumers
	drained   bool // and no more senders
	consumers []*Consumer
	readers   []*reading          // of streams, while they are read
	senders   map[sender]struct{} // publishers and callers

	channels channels // on the shared connection

	park   sync.Once
	parker *Publisher

	record func(*Publisher, Route, Message) // gets what is not sent: see handleOffline
}

// A sender is a [Publisher] or a [Caller].
type sender interface {
	Close(ctx context.Context) error
	ready() error
}

// Connect dials the broker and returns when it is connected. Until then it tries
// again, with backoff, until ctx is done. It fails at once for a bad Config and with
// [ErrBrokerTooOld], and soon, after three attempts, for credentials or a virtual host
// that are refused, and for certificates that either side refuses at every URL. A limit
// of connections, and a node that starts or stops, are waited for.
//
// Afterwards ctx has no effect; use [Conn.Close].
func Connect(ctx context.Context, c Config) (*Conn, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	publish, err := newLink(ctx, c, "publish")
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancelCause(context.Background())
	return &Conn{config: c, user: c.user(), publish: publish, life: life, end: end, senders: map[sender]struct{}{}}, nil
}

// Ready is nil when the publishing connection is up, the broker does not block it, every
// consumer is [Consumer.Ready] and every stream that is being read delivers. Otherwise it
// says what is missing.
func (c *Conn) Ready() error {
	errs := []error{c.publish.ready()}
	c.mu.Lock()
	consumers, readers := slices.Clone(c.consumers), slices.Clone(c.readers)
	senders := slices.Collect(maps.Keys(c.senders))
	c.mu.Unlock()
	for _, s := range senders {
		errs = append(errs, s.ready())
	}
	for _, consumer := range consumers {
		errs = append(errs, consumer.Ready())
	}
	for _, r := range readers {
		errs = append(errs, r.ready())
	}
	return errors.Join(errs...)
}

// Close drains the consumers, waits for outstanding confirms and closes the
// connections; it returns at the latest soon after ctx is done. Closing what was
// made from the Conn before is allowed, and gives control over the order. What is
// made from it afterwards is closed.
func (c *Conn) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.end(ErrClosed)
	consumers := slices.Clone(c.consumers)
	c.mu.Unlock()

	var errs []error
	var wg sync.WaitGroup
	results := make([]error, len(consumers))
	for i, consumer := range consumers {
		wg.Go(func() { results[i] = consumer.Drain(ctx) })
	}
	wg.Wait()
	errs = append(errs, results...)
	c.mu.Lock()
	c.drained = true // until now handlers could publish, and messages be parked
	senders := slices.Collect(maps.Keys(c.senders))
	c.mu.Unlock()
	results = make([]error, len(senders))
	for i, s := range senders { // at once: one that waits in vain takes no time from the others
		wg.Go(func() { results[i] = s.Close(ctx) })
	}
	wg.Wait()
	errs = append(errs, results...)
	c.publish.close(ctx)
	return errors.Join(errs...)
}

// QueueState is what a passive declare says about a queue.
type QueueState struct {
	// Messages are ready, not those that consumers hold.
	Messages  int
	Consumers int
}

// QueueState asks for a queue's state without making one (queue.declare, passive).
// It waits for a connection, which it makes for the question, until ctx is done.
// [ErrNotFound] says that there is no such queue. The user needs some right on it.
func (c *Conn) QueueState(ctx context.Context, name string) (QueueState, error) {
	if err := (Queue{Name: name}).validate(false); err != nil {
		return QueueState{}, fmt.Errorf("messaging: QueueState: %w", err)
	}
	ctx, cancel := c.untilClosed(ctx)
	defer cancel()
	l := startLink(c.config, "look at "+name)
	defer l.close(ctx)
	ep, err := l.await(ctx)
	if err != nil {
		return QueueState{}, fmt.Errorf("look at the queue %q: %w", name, err)
	}
	ch, err := ep.channel()
	if err != nil {
		return QueueState{}, err
	}
	defer ep.closeChannel(ch)
	var q amqp.Queue
	err = ep.guard(func() (err error) {
		q, err = ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
	var refused *amqp.Error
	if errors.As(err, &refused) && refused.Code == amqp.NotFound {
		return QueueState{}, fmt.Errorf("queue %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return QueueState{}, fmt.Errorf("look at the queue %q: %w", name, err)
	}
	return QueueState{Messages: q.Messages, Consumers: q.Consumers}, nil
}

// untilClosed is ctx, ended by ErrClosed when the Conn is closed before.
func (c *Conn) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(c.life, func() { cancel(ErrClosed) })
	return ctx, func() { unhook(); cancel(nil) }
}

// watchReading makes a reading part of Ready, until unwatchReading.
func (c *Conn) watchReading(r *reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers = append(c.readers, r)
}

func (c *Conn) unwatchReading(r *reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers = slices.DeleteFunc(c.readers, func(other *reading) bool { return other == r })
}

// forget lets a consumer go that has stopped.
func (c *Conn) forget(consumer *Consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumers = slices.DeleteFunc(c.consumers, func(other *Consumer) bool { return other == consumer })
}

// adopt makes a sender the Conn's to close: at once, when it has closed all others.
func (c *Conn) adopt(s sender) {
	c.mu.Lock()
	drained := c.drained
	if !drained {
		c.senders[s] = struct{}{}
	}
	c.mu.Unlock()
	if drained {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Close(now) // nothing is on its way, there is nothing to wait for
	}
}

// dismiss lets a sender go that is closed.
func (c *Conn) dismiss(s sender) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.senders, s)
}

// parking is the publisher that consumers park messages with, made when first needed.
func (c *Conn) parking() *Publisher {
	c.park.Do(func() {
		c.parker = c.newPublisher(publisherConfig{confirms: true, window: defaultWindow})
		c.adopt(c.parker)
	})
	return c.parker
}
