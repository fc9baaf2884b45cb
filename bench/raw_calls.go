package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

const directReplyTo = "amq.rabbitmq.reply-to"

type question struct {
	Order string `json:"order"`
}

type answer struct {
	Order string `json:"order"`
	Total int64  `json:"total"`
}

// rawCalls makes calls with direct reply-to: one channel of callers, and one server, which replies
// on the channel that it consumes from and acknowledges each request.
func rawCalls(callers int) func(context.Context, *broker, int) (job, error) {
	return func(ctx context.Context, b *broker, n int) (job, error) {
		stopServer, err := rawServer(b, callers)
		if err != nil {
			return job{}, err
		}
		conn, chs, err := rawChannels(b.url, 1, false)
		if err != nil {
			return job{}, err
		}
		replies, err := chs[0].Consume(directReplyTo, "", true, true, false, false, nil)
		if err != nil {
			return job{}, err
		}
		c := &rawCaller{ch: chs[0], waiting: map[string]chan amqp.Delivery{}}
		go c.receive(replies)
		run := func(context.Context) ([]time.Duration, error) {
			return nil, parallel(callers, n, func(_, i int) error { return c.call(ctx, routingKeys[i%keys]) })
		}
		return job{run, func() error { return errors.Join(conn.Close(), stopServer()) }}, nil
	}
}

// rawCaller are callers on one channel.
type rawCaller struct {
	ch      *amqp.Channel
	mu      sync.Mutex
	waiting map[string]chan amqp.Delivery // by correlation id
}

func (c *rawCaller) receive(replies <-chan amqp.Delivery) {
	for d := range replies {
		c.mu.Lock()
		reply := c.waiting[d.CorrelationId]
		delete(c.waiting, d.CorrelationId)
		c.mu.Unlock()
		reply <- d
	}
}

func (c *rawCaller) call(ctx context.Context, order string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	request, err := json.Marshal(question{Order: order})
	if err != nil {
		return err
	}
	reply := make(chan amqp.Delivery, 1)
	c.mu.Lock()
	c.waiting[id.String()] = reply
	c.mu.Unlock()
	err = c.ch.Publish("", requests, true, false, amqp.Publishing{
		MessageId: id.String(), CorrelationId: id.String(), Type: "ask.v1", AppId: app, UserId: user, Timestamp: time.Now(),
		ContentType: "application/json", DeliveryMode: amqp.Transient, ReplyTo: directReplyTo, Expiration: "10000", Body: request,
	})
	if err != nil {
		return err
	}
	var got answer
	select {
	case d := <-reply:
		if err := json.Unmarshal(d.Body, &got); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if got.Order != order {
		return fmt.Errorf("asked for %s, got %s", order, got.Order)
	}
	return nil
}

// rawServer answers requests until it is stopped. Its prefetch is the number of callers.
func rawServer(b *broker, callers int) (stop func() error, err error) {
	conn, chs, err := rawChannels(b.url, 1, false)
	if err != nil {
		return nil, err
	}
	if err := chs[0].Qos(callers, 0, false); err != nil {
		return nil, err
	}
	incoming, err := chs[0].Consume(requests, "", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- rawServe(chs[0], incoming) }()
	return func() error { return errors.Join(conn.Close(), <-served) }, nil
}

func rawServe(ch *amqp.Channel, incoming <-chan amqp.Delivery) error {
	for d := range incoming {
		var q question
		if err := json.Unmarshal(d.Body, &q); err != nil {
			return err
		}
		reply, err := json.Marshal(answer{Order: q.Order, Total: 4200})
		if err != nil {
			return err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		err = ch.Publish("", d.ReplyTo, false, false, amqp.Publishing{
			MessageId: id.String(), CorrelationId: d.CorrelationId, Type: "answer.v1", AppId: app, UserId: user, Timestamp: time.Now(),
			ContentType: "application/json", DeliveryMode: amqp.Transient, Body: reply,
		})
		if err != nil {
			return err
		}
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}
