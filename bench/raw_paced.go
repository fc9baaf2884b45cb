package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// pace is the rate of the latency scenario, in messages a second.
const pace = 500

// rawPaced publishes at a steady pace, with deferred confirms, and consumes.
func rawPaced(_ context.Context, b *broker, n int) (job, error) {
	conn, chs, err := rawChannels(b.url, 1, true)
	if err != nil {
		return job{}, err
	}
	consumer, consuming, err := rawChannels(b.url, 1, false)
	if err != nil {
		return job{}, err
	}
	if err := consuming[0].Qos(prefetch, 0, false); err != nil {
		return job{}, err
	}
	deliveries, err := consuming[0].Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return job{}, err
	}
	run := func(context.Context) ([]time.Duration, error) {
		l := newLatencies(n)
		handled := make(chan error, 1)
		go func() { handled <- rawHandle(deliveries, n, l) }()
		if err := rawSend(chs[0], n, l); err != nil {
			return nil, err
		}
		return l.all(), <-handled
	}
	return job{run, func() error { return errors.Join(conn.Close(), consumer.Close()) }}, nil
}

// rawSend publishes n messages at the pace, and waits for their confirms at the end.
func rawSend(ch *amqp.Channel, n int, l *latencies) error {
	confirms := make([]*amqp.DeferredConfirmation, 0, n)
	err := l.send(n, func() (string, func() error, error) {
		m, err := rawMessage()
		return m.MessageId, func() error {
			dc, err := ch.PublishWithDeferredConfirm(exchange, routingKeys[0], true, false, m)
			confirms = append(confirms, dc)
			return err
		}, err
	})
	if err != nil {
		return err
	}
	for _, dc := range confirms {
		if !dc.Wait() {
			return errNacked
		}
	}
	return nil
}

// rawHandle decodes n messages, and acknowledges several at once with multiple.
func rawHandle(deliveries <-chan amqp.Delivery, n int, l *latencies) error {
	for i := 1; i <= n; i++ {
		d := <-deliveries
		var p payload
		if err := json.Unmarshal(d.Body, &p); err != nil {
			return err
		}
		l.arrived(d.MessageId)
		if i%ackEvery == 0 || i == n {
			if err := d.Ack(true); err != nil {
				return err
			}
		}
	}
	return nil
}
