package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Sharded describes a topology that spreads messages over n queues by their routing key and
// keeps the order of the messages of each key. It has the exchange x as a [ModulusHash], the
// queues "NAME.0" to "NAME.n-1", which are like shard with a single active consumer, and
// their bindings. When shard has a dead-letter exchange of its own, the key of each queue's
// dead letters is the name of the queue.
//
// Consume the queues with [Conn.ConsumeAll]. A change of n moves nearly every key to another
// queue: wait until the shards are empty before.
func Sharded(x Exchange, n int, shard Queue) Topology {
	x.Kind = ModulusHash
	shard.SingleActiveConsumer = true
	t := Topology{Exchanges: []Exchange{x}}
	for i := range n {
		shard.Name = fmt.Sprintf("%s.%d", x.Name, i)
		if shard.DeadLetter != nil {
			own := *shard.DeadLetter
			own.Key = shard.Name
			shard.DeadLetter = &own
		}
		t.Queues = append(t.Queues, shard)
		t.Bindings = append(t.Bindings, Binding{Source: x.Name, Destination: shard.Name}) // this kind does not use the key of a binding
	}
	return t
}

// Group has consumers that start and stop together.
type Group []*Consumer

// ConsumeAll starts a consumer for each queue, all with the same handler and options: see
// [Conn.Consume]. When one of them cannot be started none is.
//
// With the queues of [Sharded] it makes a consumer group: every replica consumes all shards,
// the broker delivers each shard to one replica at a time, and [Tenure] spreads the shards
// over the replicas.
func (c *Conn) ConsumeAll(queues []Queue, h Handler, opts ...ConsumeOption) (Group, error) {
	return consumeAll(c, queues, h, nil, 1, opts)
}

// ConsumeBatchAll is [Conn.ConsumeAll] for batches, see [Conn.ConsumeBatch].
func (c *Conn) ConsumeBatchAll(queues []Queue, size int, h BatchHandler, opts ...BatchOption) (Group, error) {
	return consumeAll(c, queues, nil, h, size, opts)
}

func consumeAll[O BatchOption](c *Conn, queues []Queue, h Handler, batch BatchHandler, size int, opts []O) (Group, error) {
	var g Group
	for _, q := range queues {
		if q.Exclusive {
			return nil, errors.New("messaging: Consume: use Listen for an exclusive queue")
		}
		if q.Type == Stream {
			return nil, errors.New("messaging: Consume: use Stream to read a stream")
		}
		config, err := newConsumerConfig(q, size, false, opts)
		if err != nil {
			return nil, err
		}
		if config.autoAck && batch != nil {
			return nil, errors.New("messaging: AutoAck: not for batches, in which one message may fail")
		}
		consumer, err := c.newConsumer(q, nil, h, batch, config)
		if err != nil {
			return nil, err
		}
		g = append(g, consumer)
	}
	if err := c.start(g...); err != nil {
		return nil, err
	}
	return g, nil
}

// Ready is nil when every consumer is [Consumer.Ready].
func (g Group) Ready() error {
	var errs []error
	for _, c := range g {
		errs = append(errs, c.Ready())
	}
	return errors.Join(errs...)
}

// Drain drains all consumers at once, see [Consumer.Drain].
func (g Group) Drain(ctx context.Context) error {
	return g.each(func(c *Consumer) error { return c.Drain(ctx) })
}

// Stop stops all consumers at once, see [Consumer.Stop].
func (g Group) Stop(ctx context.Context) error {
	return g.each(func(c *Consumer) error { return c.Stop(ctx) })
}

func (g Group) each(stop func(c *Consumer) error) error {
	errs := make([]error, len(g))
	var wg sync.WaitGroup
	for i, c := range g {
		wg.Go(func() { errs[i] = stop(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
