package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

// What people write by hand on amqp091-go.

const (
	window   = 1000 // confirms outstanding on a channel
	ackEvery = 50
	prefetch = 1000
)

var errNacked = errors.New("not confirmed")

// rawChannels opens a connection with channels in confirm mode.
func rawChannels(url string, n int, confirm bool) (*amqp.Connection, []*amqp.Channel, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, nil, err
	}
	var channels []*amqp.Channel
	for range n {
		ch, err := conn.Channel()
		if err == nil && confirm {
			err = ch.Confirm(false)
		}
		if err != nil {
			return nil, nil, errors.Join(err, conn.Close())
		}
		channels = append(channels, ch)
	}
	return conn, channels, nil
}

// rawTuned publishes from one goroutine and waits for the oldest confirm when a
// window of them is outstanding on a channel. Messages of one key go to one channel.
func rawTuned(channels, window int) func(context.Context, *broker, int) (job, error) {
	return func(_ context.Context, b *broker, n int) (job, error) {
		conn, chs, err := rawChannels(b.url, channels, true)
		if err != nil {
			return job{}, err
		}
		run := func(context.Context) ([]time.Duration, error) {
			outstanding := make([][]*amqp.DeferredConfirmation, channels)
			for i := range n {
				key := i % keys
				lane := key % channels
				m, err := rawMessage()
				if err != nil {
					return nil, err
				}
				if len(outstanding[lane]) == window {
					if !outstanding[lane][0].Wait() {
						return nil, errNacked
					}
					outstanding[lane] = outstanding[lane][1:]
				}
				dc, err := chs[lane].PublishWithDeferredConfirm(exchange, routingKeys[key], true, false, m)
				if err != nil {
					return nil, err
				}
				outstanding[lane] = append(outstanding[lane], dc)
			}
			for _, lane := range outstanding {
				for _, dc := range lane {
					if !dc.Wait() {
						return nil, errNacked
					}
				}
			}
			return nil, nil
		}
		return job{run, conn.Close}, nil
	}
}

// rawNaive publishes and waits, in goroutines with a channel each.
func rawNaive(goroutines int) func(context.Context, *broker, int) (job, error) {
	return func(_ context.Context, b *broker, n int) (job, error) {
		conn, chs, err := rawChannels(b.url, goroutines, true)
		if err != nil {
			return job{}, err
		}
		run := func(context.Context) ([]time.Duration, error) {
			return nil, parallel(goroutines, n, func(worker, i int) error {
				m, err := rawMessage()
				if err != nil {
					return err
				}
				dc, err := chs[worker].PublishWithDeferredConfirm(exchange, routingKeys[i%keys], true, false, m)
				if err != nil {
					return err
				}
				if !dc.Wait() {
					return errNacked
				}
				return nil
			})
		}
		return job{run, conn.Close}, nil
	}
}

// rawUnconfirmed publishes and hopes. It ends when the queue has everything.
func rawUnconfirmed(_ context.Context, b *broker, n int) (job, error) {
	conn, chs, err := rawChannels(b.url, 1, false)
	if err != nil {
		return job{}, err
	}
	run := func(context.Context) ([]time.Duration, error) {
		for i := range n {
			m, err := rawMessage()
			if err != nil {
				return nil, err
			}
			if err := chs[0].Publish(exchange, routingKeys[i%keys], false, false, m); err != nil {
				return nil, err
			}
		}
		poll := time.NewTicker(time.Millisecond)
		defer poll.Stop()
		for range poll.C {
			q, err := b.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			if err != nil || q.Messages >= n {
				return nil, err
			}
		}
		return nil, nil
	}
	return job{run, conn.Close}, nil
}

// rawConsume decodes each message and acknowledges every so many with multiple.
func rawConsume(every int) func(context.Context, *broker, int) (job, error) {
	return func(_ context.Context, b *broker, n int) (job, error) {
		conn, chs, err := rawChannels(b.url, 1, false)
		if err != nil {
			return job{}, err
		}
		run := func(context.Context) ([]time.Duration, error) {
			ch := chs[0]
			if err := ch.Qos(prefetch, 0, false); err != nil {
				return nil, err
			}
			deliveries, err := ch.Consume(queue, "", false, false, false, false, nil)
			if err != nil {
				return nil, err
			}
			for i := 1; i <= n; i++ {
				d := <-deliveries
				var p payload
				if err := json.Unmarshal(d.Body, &p); err != nil {
					return nil, err
				}
				if p.Amount != 4200 {
					return nil, errors.New("wrong body")
				}
				if i%every == 0 || i == n {
					if err := d.Ack(every > 1); err != nil {
						return nil, err
					}
				}
			}
			return nil, nil
		}
		return job{run, conn.Close}, nil
	}
}

type question struct {
	Order string `json:"order"`
}

type answer struct {
	Order string `json:"order"`
	Total int64  `json:"total"`
}

// rawCalls asks over direct reply-to: one channel of callers, one server, which
// answers on the channel that it consumes from and acknowledges each request.
func rawCalls(callers int) func(context.Context, *broker, int) (job, error) {
	return func(ctx context.Context, b *broker, n int) (job, error) {
		serverConn, server, err := rawChannels(b.url, 1, false)
		if err != nil {
			return job{}, err
		}
		clientConn, client, err := rawChannels(b.url, 1, false)
		if err != nil {
			return job{}, err
		}
		served := make(chan error, 1)
		if err := server[0].Qos(callers, 0, false); err != nil {
			return job{}, err
		}
		incoming, err := server[0].Consume(requests, "", false, false, false, false, nil)
		if err != nil {
			return job{}, err
		}
		go func() { served <- rawServe(server[0], incoming) }()
		replies, err := client[0].Consume("amq.rabbitmq.reply-to", "", true, true, false, false, nil)
		if err != nil {
			return job{}, err
		}
		var mu sync.Mutex
		waiting := map[string]chan amqp.Delivery{}
		go func() {
			for d := range replies {
				mu.Lock()
				ch := waiting[d.CorrelationId]
				delete(waiting, d.CorrelationId)
				mu.Unlock()
				ch <- d
			}
		}()
		call := func(_, i int) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			request, err := json.Marshal(question{Order: routingKeys[i%keys]})
			if err != nil {
				return err
			}
			ch := make(chan amqp.Delivery, 1)
			mu.Lock()
			waiting[id.String()] = ch
			mu.Unlock()
			err = client[0].Publish("", requests, true, false, amqp.Publishing{
				MessageId: id.String(), CorrelationId: id.String(), Type: "ask.v1", AppId: app, UserId: user, Timestamp: time.Now(),
				ContentType: "application/json", DeliveryMode: amqp.Transient, ReplyTo: "amq.rabbitmq.reply-to", Expiration: "10000", Body: request,
			})
			if err != nil {
				return err
			}
			var reply answer
			select {
			case d := <-ch:
				if err := json.Unmarshal(d.Body, &reply); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			if reply.Order != routingKeys[i%keys] {
				return fmt.Errorf("asked for %s, got %s", routingKeys[i%keys], reply.Order)
			}
			return nil
		}
		run := func(context.Context) ([]time.Duration, error) { return nil, parallel(callers, n, call) }
		stop := func() error { return errors.Join(clientConn.Close(), serverConn.Close(), <-served) }
		return job{run, stop}, nil
	}
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

// pace is the rate of the latency scenario, in messages a second.
const pace = 500

// rawPaced publishes at a steady pace, with deferred confirms, and consumes.
func rawPaced(_ context.Context, b *broker, n int) (job, error) {
	conn, chs, err := rawChannels(b.url, 1, true)
	if err != nil {
		return job{}, err
	}
	consumer, err := amqp.Dial(b.url)
	if err != nil {
		return job{}, err
	}
	ch, err := consumer.Channel()
	if err != nil {
		return job{}, err
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return job{}, err
	}
	deliveries, err := ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return job{}, err
	}
	run := func(context.Context) ([]time.Duration, error) {
		l := newLatencies(n)
		handled := make(chan error, 1)
		go func() {
			for i := 1; i <= n; i++ {
				d := <-deliveries
				var p payload
				if err := json.Unmarshal(d.Body, &p); err != nil {
					handled <- err
					return
				}
				l.arrived(d.MessageId)
				if i%ackEvery == 0 || i == n {
					if err := d.Ack(true); err != nil {
						handled <- err
						return
					}
				}
			}
			handled <- nil
		}()
		confirms := make([]*amqp.DeferredConfirmation, 0, n)
		err := l.send(n, func() (string, func() error, error) {
			m, err := rawMessage()
			return m.MessageId, func() error {
				dc, err := chs[0].PublishWithDeferredConfirm(exchange, routingKeys[0], true, false, m)
				confirms = append(confirms, dc)
				return err
			}, err
		})
		if err != nil {
			return nil, err
		}
		for _, dc := range confirms {
			if !dc.Wait() {
				return nil, errNacked
			}
		}
		return l.all(), <-handled
	}
	return job{run, func() error { return errors.Join(conn.Close(), consumer.Close()) }}, nil
}

// parallel does n things in so many goroutines, and gives the first error.
func parallel(goroutines, n int, do func(worker, i int) error) error {
	var next atomic.Int64
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for w := range goroutines {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = do(w, i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
