package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/internal/offline"
)

func init() { offline.Handle = handleOffline }

// handleOffline handles one delivery as a consumer of the queue does, on a subscription
// without a channel: nothing is sent to a broker. published gets each message that would have
// been published, and whether it is the copy of a parked message.
func handleOffline(ctx context.Context, log *zap.Logger, q Queue, d Delivery, handler func(*Publisher) Handler,
	opts []ConsumeOption, published func(r Route, m Message, parked bool),
) (Verdict, error) {
	var away bool
	verdict := Stale
	over := make(chan struct{})
	var once sync.Once
	end := func() { once.Do(func() { close(over) }) }
	conn := offlineConn(Config{Logger: log, Observers: []Observer{offlineObserver{
		settled: func(v Verdict) { verdict = v; end() },
		away:    func(err error) { away = away || err != nil; end() },
	}}}, published)
	publisher, err := conn.Publisher()
	if err != nil {
		return "", err
	}
	config, err := newConsumerConfig(q, 1, false, opts)
	if err != nil {
		return "", err
	}
	consumer, err := conn.newConsumer(q, nil, handler(publisher), nil, config)
	if err != nil {
		return "", err
	}
	consumer.halt = func() {}
	consumer.handlers, consumer.abort = context.WithCancelCause(ctx)
	defer consumer.abort(nil)
	raw, err := d.received(q)
	if err != nil {
		return "", err
	}
	deliveries := make(chan amqp.Delivery, 1)
	deliveries <- raw
	s := consumer.subscription(&epoch{callTimeout: time.Hour}) // nothing here takes time
	s.deliveries, s.acks = deliveries, newAcks(noChannel{}, s.prefetch)
	s.cancel = func(bool) error { close(deliveries); return nil }
	defer s.acks.stop()
	go func() { <-over; consumer.takeNoMore() }()
	err = s.work(nil)
	end()
	if away && verdict == GivenBack { // on a queue that keeps order a consumer would wait in place
		verdict = Away
	}
	if errors.Is(err, errAway) {
		err = nil
	}
	return verdict, err
}

// offlineObserver gets the verdict on the delivery.
type offlineObserver struct {
	settled func(Verdict)
	away    func(error)
}

func (o offlineObserver) OnSettle(e SettleEvent) { o.settled(e.Verdict) }
func (o offlineObserver) OnAway(e AwayEvent)     { o.away(e.Err) }

// offlineConn is a Conn whose publishers pass their messages to a function.
func offlineConn(config Config, published func(r Route, m Message, parked bool)) *Conn {
	c := &Conn{config: config.withDefaults(), senders: map[sender]struct{}{}}
	c.life, c.end = context.WithCancelCause(context.Background())
	c.record = func(p *Publisher, r Route, m Message) { published(r, m, p == c.parker) }
	return c
}

// noChannel accepts every acknowledgement and sends nothing.
type noChannel struct{}

func (noChannel) Ack(uint64, bool) error        { return nil }
func (noChannel) Nack(uint64, bool, bool) error { return nil }
func (noChannel) Reject(uint64, bool) error     { return nil }

// received makes the delivery that the client library would have given.
func (d Delivery) received(q Queue) (amqp.Delivery, error) {
	headers, err := carriedHeaders(d.Headers, true)
	if err != nil {
		return amqp.Delivery{}, fmt.Errorf("Delivery.Headers: %w", err)
	}
	table := make(amqp.Table, len(headers)+3)
	for name, value := range headers {
		table[name] = value
	}
	if d.Attempt > 1 && q.Type == Quorum {
		table["x-delivery-count"] = int64(d.Attempt - 1)
		table["x-acquired-count"] = int64(max(d.Acquired, d.Attempt-1))
	}
	if len(d.Deaths) > 0 {
		deaths := make([]any, len(d.Deaths))
		for i, death := range d.Deaths {
			deaths[i] = amqp.Table{"queue": death.Queue, "reason": death.Reason, "count": death.Count}
		}
		table["x-death"] = deaths
	}
	p := publishing091(&d.Message)
	return amqp.Delivery{
		Acknowledger: noChannel{}, DeliveryTag: 1, Redelivered: d.Redelivered || d.Attempt > 1,
		Exchange: d.Exchange, RoutingKey: d.Key, ConsumerTag: d.ConsumerTag, Headers: table, Body: p.Body,
		ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageId,
		Timestamp: p.Timestamp, Type: p.Type, UserId: p.UserId, AppId: p.AppId,
	}, nil
}
