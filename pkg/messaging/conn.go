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
// Consumers do not share a connection, because a single queue or message may cost the whole
// connection: the broker closes it when the leader of a queue does not answer, and the
// client library when it cannot read a message. Also, a broker that stops reading from
// publishing connections still reads the consumers' acknowledgements.
//
// Safe for concurrent use.
type Conn struct {
	config  Config
	user    string // the broker user, on every message
	publish *link
	life    context.Context // ends with Close; the cause is ErrClosed
	end     context.CancelCauseFunc

	mu        sync.Mutex
	closed    bool // no more consumers are added
	drained   bool // and no more publishers and callers
	consumers []*Consumer
	readers   []*reading          // of streams, while they are read
	senders   map[sender]struct{} // publishers and callers

	channels channels // on the shared connection

	park   sync.Once
	parker *Publisher

	record func(*Publisher, Route, Message) // gets each message in place of the broker: see handleOffline
}

// A sender is a [Publisher] or a [Caller].
type sender interface {
	Close(ctx context.Context) error
	ready() error
}

// Connect dials the broker and returns when it is connected. It tries again, with backoff,
// until ctx is done. It fails at once for an invalid Config and with [ErrBrokerTooOld]. It
// fails after three attempts when the broker refuses the credentials or the virtual host,
// or when at every URL one side refuses the other's certificate. It goes on trying when a
// limit of connections is reached and while a node starts or stops.
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

// Ready is nil when the publishing connection is up and not blocked by the broker, every
// consumer is [Consumer.Ready], and every reader of a stream is subscribed. Otherwise the
// error says what is missing.
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

// Close drains the consumers, waits for outstanding confirms and closes the connections.
// It returns soon after ctx is done at the latest. Consumers, publishers and callers of the
// Conn may be closed before, in any order; those that are made afterwards are closed
// already.
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
	c.drained = true // not before: handlers publish, and consumers park messages
	senders := slices.Collect(maps.Keys(c.senders))
	c.mu.Unlock()
	results = make([]error, len(senders))
	for i, s := range senders { // all at the same time, so that none uses up the time of the others
		wg.Go(func() { results[i] = s.Close(ctx) })
	}
	wg.Wait()
	errs = append(errs, results...)
	c.publish.close(ctx)
	return errors.Join(errs...)
}

// QueueState is what the broker says about a queue (queue.declare, passive).
type QueueState struct {
	// Messages counts ready messages. Those that consumers hold are not in it.
	Messages  int
	Consumers int
}

// QueueState asks for the state of a queue and declares nothing (queue.declare, passive).
// It opens a connection of its own for this, and waits for it until ctx is done. Without
// such a queue it returns [ErrNotFound]. The user needs at least one right on the queue.
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

// untilClosed gives a context that ends with ctx, or with ErrClosed when the Conn is closed.
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

// forget removes a consumer that has stopped.
func (c *Conn) forget(consumer *Consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumers = slices.DeleteFunc(c.consumers, func(other *Consumer) bool { return other == consumer })
}

// adopt adds a sender that Close is to close. When Close has closed the others already, the
// sender is closed at once.
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
		_ = s.Close(now) // it has sent nothing, so there is nothing to wait for
	}
}

// dismiss removes a sender that is closed.
func (c *Conn) dismiss(s sender) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.senders, s)
}

// parking gives the publisher with which consumers park messages. It is made when it is
// needed for the first time.
func (c *Conn) parking() *Publisher {
	c.park.Do(func() {
		c.parker = c.newPublisher(publisherConfig{confirms: true, window: defaultWindow})
		c.adopt(c.parker)
	})
	return c.parker
}
