package messaging

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"go.uber.org/zap"
)

// ConsumeOption changes how a [Consumer] works.
type ConsumeOption func(*Consumer)

// Concurrency is how many messages are handled at once. Defaults to 1.
func Concurrency(n int) ConsumeOption { return func(c *Consumer) { c.concurrency = n } }

// Prefetch is how many unsettled messages the broker sends ahead. Defaults to the
// concurrency. Small is good: everything prefetched counts an attempt when the
// connection drops, overtakes messages of higher priority, and its consumer timeout
// already runs. At most 65,535.
func Prefetch(n int) ConsumeOption { return func(c *Consumer) { c.prefetch = n } }

// HandlerTimeout is the deadline of each handler. Defaults to 30 s. It must be
// well below the queue's consumer timeout, after which the broker gives the
// message to somebody else without counting an attempt.
func HandlerTimeout(d time.Duration) ConsumeOption { return func(c *Consumer) { c.timeout = d } }

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
// place to drop a cache, since messages may have been missed. It must not block. Nil
// is nothing.
func OnSubscribe(f func()) ConsumeOption { return func(c *Consumer) { c.onSubscribe = f } }

// newConsumer makes a consumer of its description, and refuses what cannot work.
func (c *Conn) newConsumer(consumer *Consumer, opts []ConsumeOption) (*Consumer, error) {
	q := consumer.queue
	consumer.conn = c
	consumer.log = c.config.Logger.With(zap.String("queue", q.Name))
	consumer.concurrency = 1
	consumer.timeout = 30 * time.Second
	consumer.keepsOrder = q.SingleActiveConsumer
	if q.SingleActiveConsumer {
		consumer.tenure = time.Minute
	}
	for _, opt := range opts {
		if opt != nil {
			opt(consumer)
		}
	}
	if consumer.prefetch == 0 {
		consumer.prefetch = consumer.concurrency
	}
	// A queue of others may be described in part; an exclusive one is declared.
	if err := errors.Join(q.validate(q.Exclusive), consumer.validate()); err != nil {
		return nil, err
	}
	consumer.retries = retriesOf(q)
	consumer.draining = make(chan struct{})
	consumer.done = make(chan struct{})
	consumer.state = fmt.Errorf("queue %q: not subscribed yet", q.Name)
	consumer.trouble = trouble{log: consumer.log, fails: "subscription ended, trying again", works: "subscribed again"}
	consumer.away = newAway(q.Name, consumer.log, c.config.Hooks)
	return consumer, nil
}

// validate names the option that is wrong.
func (c *Consumer) validate() error {
	q := c.queue
	if err := checkText(c.tag); err != nil {
		return fmt.Errorf("messaging: ConsumerTag: %w", err)
	}
	switch {
	case isNil(c.handler):
		return errors.New("messaging: Consume: the handler is nil")
	case c.concurrency < 1 || c.concurrency > maxPrefetch:
		return fmt.Errorf("messaging: Concurrency: must be from 1 to %d", maxPrefetch)
	case c.prefetch < c.concurrency:
		return errors.New("messaging: Prefetch: must not be below Concurrency")
	case c.prefetch > maxPrefetch:
		return fmt.Errorf("messaging: Prefetch: AMQP allows at most %d", maxPrefetch)
	case c.timeout <= 0 || c.timeout > maxWait:
		return fmt.Errorf("messaging: HandlerTimeout: must be positive, and at most %s", maxWait)
	case c.tenure < 0 || c.tenure > maxWait:
		return fmt.Errorf("messaging: Tenure: must not be negative, and at most %s", maxWait)
	case c.priority < math.MinInt32 || c.priority > math.MaxInt32:
		return errors.New("messaging: ConsumerPriority: must fit into 32 bits")
	case q.SingleActiveConsumer && c.prefetch != 1:
		return errors.New("messaging: Prefetch: a single active consumer keeps order with 1 only")
	case q.SingleActiveConsumer && c.priority != 0:
		return errors.New("messaging: ConsumerPriority: not for a single active consumer, see its documentation")
	case q.SingleActiveConsumer && c.autoAck:
		return errors.New("messaging: AutoAck: not for a single active consumer, see its documentation")
	case c.exclusive && (q.Type != Classic || q.SingleActiveConsumer):
		return errors.New("messaging: ExclusiveConsumer: for a classic queue without a single active consumer only")
	case !q.SingleActiveConsumer && c.tenure != 0:
		return errors.New("messaging: Tenure: for a single active consumer only")
	case q.ConsumerTimeout > 0 && c.timeout+q.kept() >= q.ConsumerTimeout:
		return fmt.Errorf("messaging: HandlerTimeout: must, with the time that Retry keeps a message, be below the queue's consumer timeout of %s", q.ConsumerTimeout)
	}
	return nil
}

// isNil says whether there is no handler, or one that is a nil function.
func isNil(h Handler) bool {
	v := reflect.ValueOf(h)
	return h == nil || v.Kind() == reflect.Func && v.IsNil()
}
