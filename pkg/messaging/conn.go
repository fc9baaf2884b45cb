package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Conn is a supervised connection to the broker. It reconnects for ever, until
// it is closed. Publishers and consumers use two separate AMQP connections, so
// that a broker which stops reading from publishers still gets acknowledgements.
//
// Safe for concurrent use.
type Conn struct {
	config  Config
	user    string // the broker user, on every message
	publish *link
	consume *link

	mu        sync.Mutex
	closed    bool // takes no more consumers
	drained   bool // and no more senders
	consumers []*Consumer
	senders   []closer // publishers and callers

	park   sync.Once
	parker *Publisher
}

type closer interface {
	Close(ctx context.Context) error
}

// Connect dials the broker and returns when it is connected. Until then it tries
// again, with backoff, until ctx is done. It fails at once for a bad Config and with
// [ErrBrokerTooOld], and soon, after three attempts, for credentials or a virtual host
// that are refused, and for certificates that either side refuses at every URL.
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
	consume, err := newLink(ctx, c, "consume")
	if err != nil {
		publish.close(ctx)
		return nil, err
	}
	return &Conn{config: c, user: c.user(), publish: publish, consume: consume}, nil
}

// Ready is nil when both connections are up, the broker does not block them and
// every consumer is subscribed. Otherwise it says what is missing.
func (c *Conn) Ready() error {
	errs := []error{c.publish.ready(), c.consume.ready()}
	c.mu.Lock()
	consumers := c.consumers
	c.mu.Unlock()
	for _, consumer := range consumers {
		errs = append(errs, consumer.Ready())
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
	consumers := c.consumers
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
	senders := c.senders
	c.mu.Unlock()
	for _, s := range senders {
		errs = append(errs, s.Close(ctx))
	}
	c.consume.close(ctx)
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
// It waits for the connection until ctx is done. [ErrNotFound] says that there is
// no such queue. The user needs some right on the queue.
func (c *Conn) QueueState(ctx context.Context, name string) (QueueState, error) {
	ep, err := c.consume.await(ctx)
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

// publishing calls the hook with a copy of the message, whose headers it may change.
// By value, so that without a hook no message is moved to the heap.
func (c *Conn) publishing(ctx context.Context, route Route, m Message) (Message, func(error)) {
	headers := make(map[string]any, len(m.Headers)+2)
	maps.Copy(headers, m.Headers)
	m.Headers = headers
	finish := c.config.Hooks.Publishing(ctx, route, &m)
	return m, finish
}

// adopt makes a sender the Conn's to close: at once, when it has closed all others.
func (c *Conn) adopt(sender closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.drained {
		c.senders = append(c.senders, sender)
		return
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = sender.Close(now) // nothing is on its way, there is nothing to wait for
}

// parking is the publisher that consumers park messages with, made when first needed.
func (c *Conn) parking() *Publisher {
	c.park.Do(func() { c.parker = c.Publisher() })
	return c.parker
}
