package messaging

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ConsumeOption is a setting of [Conn.Consume] and [Conn.ConsumeAll]; each [ListenOption]
// is one too. Nil is ignored.
type ConsumeOption interface {
	BatchOption
	applyConsume(c *consumerConfig)
}

// ListenOption is a setting of [Conn.Listen], and of [Conn.Consume] as well. Nil is ignored.
type ListenOption interface {
	ConsumeOption
	forListen()
}

// BatchOption is a setting of [Conn.ConsumeBatch] and [Conn.ConsumeBatchAll]; each
// [ConsumeOption] is one too, except [AutoAck]. Nil is ignored.
type BatchOption interface{ applyBatch(c *consumerConfig) }

type batchOption func(c *consumerConfig)

func (f batchOption) applyBatch(c *consumerConfig) { f(c) }

type consumeOption func(c *consumerConfig)

func (f consumeOption) applyConsume(c *consumerConfig) { f(c) }
func (f consumeOption) applyBatch(c *consumerConfig)   { f(c) }

type listenOption struct{ consumeOption }

func (listenOption) forListen() {}

// consumerConfig has the settings of a [Consumer].
type consumerConfig struct {
	size        int           // of a batch; 1 for a [Handler]
	linger      time.Duration // of batches
	concurrency int
	prefetch    int
	timeout     time.Duration // 0 for none
	tag         string
	priority    int
	tenure      time.Duration // 0 for ever
	exclusive   bool
	autoAck     bool
	onSubscribe func()
}

// likeConcurrency stands for a prefetch that was not set.
const likeConcurrency = math.MinInt

// Concurrency is how many messages are handled at once: 1 to 65,535. Defaults to 1.
func Concurrency(n int) ListenOption {
	return listenOption{func(c *consumerConfig) { c.concurrency = n }}
}

// Prefetch is how many unsettled messages the broker sends ahead: at least the
// concurrency, which is the default, and at most 65,535. A small number is better: for
// every prefetched message a lost connection counts as an attempt, the consumer timeout is
// running already, and messages of higher priority that arrive later come after it.
func Prefetch(n int) ConsumeOption {
	return consumeOption(func(c *consumerConfig) { c.prefetch = n })
}

// HandlerTimeout is the deadline of each call of a handler. Defaults to 30 s; 0 means none.
// It must be well below the queue's consumer timeout, after which the broker delivers the
// message to another consumer without counting an attempt. A handler that goes on after its
// deadline keeps its message, and counts towards the [Concurrency], until it returns. One
// second after the deadline this is logged and reported to each [OverdueObserver].
func HandlerTimeout(d time.Duration) ListenOption {
	return listenOption{func(c *consumerConfig) { c.timeout = d }}
}

// ConsumerTag names the consumer in the management UI. Defaults to a unique name.
func ConsumerTag(tag string) ListenOption {
	return listenOption{func(c *consumerConfig) { c.tag = tag }}
}

// ConsumerPriority makes this consumer get messages before those with a lower priority, as
// long as its prefetch allows it (https://www.rabbitmq.com/docs/consumer-priority). Defaults
// to 0; 32 bits. It is refused on a queue with a single active consumer: when the active
// consumer dies while one of higher priority takes over, RabbitMQ 4.3 keeps the dead one in
// its list and may later make it the active consumer for ever; see DESIGN.md.
func ConsumerPriority(n int) ConsumeOption {
	return consumeOption(func(c *consumerConfig) { c.priority = n })
}

// Tenure is about how long a consumer of a queue with a single active consumer stays the
// active one. Then, when it acknowledges a message, it cancels its subscription and
// subscribes again behind the consumers that wait, so order is kept. This spreads many such
// queues over the replicas; otherwise the replica that starts first would be active on all
// of them. Each time is random, from half of d to one and a half times d. Defaults to one
// minute; 0 means no limit.
func Tenure(d time.Duration) ConsumeOption {
	return consumeOption(func(c *consumerConfig) { c.tenure = d })
}

// ExclusiveConsumer asks to be the only consumer of the queue. While there is another one,
// subscribing fails and is tried again. It is for classic queues without a single active
// consumer only: a quorum queue accepts other consumers all the same, without an error.
func ExclusiveConsumer() ConsumeOption {
	return consumeOption(func(c *consumerConfig) { c.exclusive = true })
}

// AutoAck makes the broker treat messages as acknowledged when it sends them. This is fast,
// but messages that the handler fails or does not reach are lost. The broker sends all
// messages at once, without a limit: those that come faster than the handler works wait in
// the memory of this process. So AutoAck is refused together with [Prefetch]. It is also
// refused on a queue with a single active consumer, which needs acknowledgements to let
// another consumer take over.
func AutoAck() ConsumeOption {
	return consumeOption(func(c *consumerConfig) { c.autoAck = true })
}

// OnSubscribe sets a function that is called after each subscription, before the first
// delivery: for example to drop a cache, since messages may have been missed. It must not
// block. A nil function is ignored.
func OnSubscribe(f func()) ListenOption {
	return listenOption{func(c *consumerConfig) { c.onSubscribe = f }}
}

// Linger is how long a consumer of batches waits for more messages after the first one of a
// batch, if the batch is not full. Defaults to 0: it takes the messages that are there.
// Messages are handled later by this time.
func Linger(d time.Duration) BatchOption {
	return batchOption(func(c *consumerConfig) { c.linger = d })
}

// newConsumerConfig makes the settings of a consumer from the defaults for its queue and the
// options.
func newConsumerConfig[O BatchOption](q Queue, size int, autoAck bool, opts []O) (consumerConfig, error) {
	c := consumerConfig{size: size, concurrency: 1, prefetch: likeConcurrency, timeout: 30 * time.Second, autoAck: autoAck}
	if q.SingleActiveConsumer {
		c.tenure = time.Minute
	}
	for _, opt := range opts {
		if any(opt) != nil {
			opt.applyBatch(&c)
		}
	}
	err := c.validate(q)
	if c.prefetch == likeConcurrency {
		c.prefetch = c.concurrency * c.size
	}
	return c, err
}

// validate is an error that names the option that is out of range or wrong for the queue.
func (c consumerConfig) validate(q Queue) error {
	if err := checkText(c.tag); err != nil {
		return fmt.Errorf("messaging: ConsumerTag: %w", err)
	}
	given := c.prefetch != likeConcurrency
	switch {
	case c.size < 1 || c.size > maxPrefetch:
		return fmt.Errorf("messaging: ConsumeBatch: the size must be from 1 to %d", maxPrefetch)
	case c.linger < 0 || c.linger > maxWait:
		return fmt.Errorf("messaging: Linger: must not be negative, and at most %s", maxWait)
	case c.concurrency < 1 || c.concurrency > maxPrefetch:
		return fmt.Errorf("messaging: Concurrency: must be from 1 to %d", maxPrefetch)
	case given && c.autoAck:
		return errors.New("messaging: Prefetch: has no effect with AutoAck")
	case c.concurrency*c.size > maxPrefetch:
		return fmt.Errorf("messaging: Concurrency: must, times the size of a batch, be at most %d", maxPrefetch)
	case given && c.prefetch < c.concurrency*c.size:
		return errors.New("messaging: Prefetch: must not be below Concurrency, times the size of a batch")
	case given && c.prefetch > maxPrefetch:
		return fmt.Errorf("messaging: Prefetch: AMQP allows at most %d", maxPrefetch)
	case c.timeout < 0 || c.timeout > maxWait:
		return fmt.Errorf("messaging: HandlerTimeout: must not be negative, and at most %s", maxWait)
	case c.tenure < 0 || c.tenure > maxWait:
		return fmt.Errorf("messaging: Tenure: must not be negative, and at most %s", maxWait)
	case c.priority < math.MinInt32 || c.priority > math.MaxInt32:
		return errors.New("messaging: ConsumerPriority: must fit into 32 bits")
	}
	return c.validateFor(q)
}

// validateFor is an error that names the option that is wrong for the queue.
func (c consumerConfig) validateFor(q Queue) error {
	switch {
	case q.SingleActiveConsumer && c.concurrency != 1:
		return errors.New("messaging: Concurrency: a single active consumer keeps order with 1 only")
	case q.SingleActiveConsumer && c.size == 1 && c.prefetch != likeConcurrency && c.prefetch != 1:
		return errors.New("messaging: Prefetch: a single active consumer keeps order with 1 only, or in batches")
	case q.SingleActiveConsumer && c.priority != 0:
		return errors.New("messaging: ConsumerPriority: not for a single active consumer, see its documentation")
	case q.SingleActiveConsumer && c.autoAck:
		return errors.New("messaging: AutoAck: not for a single active consumer, see its documentation")
	case c.exclusive && (q.Type != Classic || q.SingleActiveConsumer):
		return errors.New("messaging: ExclusiveConsumer: for a classic queue without a single active consumer only")
	case !q.SingleActiveConsumer && c.tenure != 0:
		return errors.New("messaging: Tenure: for a single active consumer only")
	case c.size > 1 && q.ConsumerTimeout > 0 && 2*c.timeout+q.kept() >= q.ConsumerTimeout:
		return fmt.Errorf("messaging: HandlerTimeout: of a batch, must twice, with the time that Retry keeps a message, be below the queue's consumer timeout of %s", q.ConsumerTimeout)
	case q.ConsumerTimeout > 0 && c.timeout+q.kept() >= q.ConsumerTimeout:
		return fmt.Errorf("messaging: HandlerTimeout: must, with the time that Retry keeps a message, be below the queue's consumer timeout of %s", q.ConsumerTimeout)
	case q.ConsumerTimeout > 0 && c.timeout == 0:
		return fmt.Errorf("messaging: HandlerTimeout: must be given, since the queue has a consumer timeout of %s", q.ConsumerTimeout)
	}
	return nil
}
