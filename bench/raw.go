package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The same work as usually written by hand on amqp091-go.

const (
	window   = 1000 // unconfirmed messages on a channel
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

// rawTuned publishes from one goroutine. When a whole window of messages on a channel is not
// confirmed, it waits for the oldest one. Messages with the same key use the same channel.
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

// rawNaive publishes and waits for each confirm, in goroutines with their own channels.
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

// rawUnconfirmed publishes without confirms. It ends when the queue has every message.
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

// rawConsume decodes each message, and acknowledges several at once with multiple.
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

// parallel divides n calls among goroutines, and returns the first error.
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
