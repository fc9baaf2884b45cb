package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// The same work with pkg/messaging.

var (
	benchType = messaging.MessageType{Name: kind, Owner: user, Exchange: exchange}
	work      = messaging.Queue{Name: queue, Type: messaging.Quorum}
	ask       = messaging.Procedure[question, answer]{
		Route:   messaging.Route{Key: requests},
		Request: messaging.MessageType{Name: "ask.v1", Owner: user},
		Reply:   messaging.MessageType{Name: "answer.v1", Owner: user},
	}
)

func connect(ctx context.Context, b *broker) (*messaging.Conn, func() error, error) {
	conn, err := messaging.Connect(ctx, messaging.Config{URLs: []string{b.url}, Name: app})
	if err != nil {
		return nil, nil, err
	}
	return conn, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return conn.Close(ctx)
	}, nil
}

// ourPublish publishes from one goroutine, as rawTuned does. When a whole window of messages is
// not confirmed, it waits for the oldest one.
func ourPublish(ctx context.Context, b *broker, n int) (job, error) {
	conn, stop, err := connect(ctx, b)
	if err != nil {
		return job{}, err
	}
	p, err := conn.Publisher()
	if err != nil {
		return job{}, err
	}
	run := func(ctx context.Context) ([]time.Duration, error) {
		var outstanding []*messaging.Confirmation
		for i := range n {
			m, err := ourMessage()
			if err != nil {
				return nil, err
			}
			if len(outstanding) == window {
				if err := outstanding[0].Wait(ctx); err != nil {
					return nil, err
				}
				outstanding = outstanding[1:]
			}
			outstanding = append(outstanding, p.PublishAsync(ctx, messaging.Route{Exchange: exchange, Key: routingKeys[i%keys]}, m))
		}
		for _, c := range outstanding {
			if err := c.Wait(ctx); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	return job{run, stop}, nil
}

// ourPublishAndWait publishes as a service does: each goroutine waits for its confirm.
func ourPublishAndWait(goroutines int) func(context.Context, *broker, int) (job, error) {
	return func(ctx context.Context, b *broker, n int) (job, error) {
		conn, stop, err := connect(ctx, b)
		if err != nil {
			return job{}, err
		}
		p, err := conn.Publisher()
		if err != nil {
			return job{}, err
		}
		run := func(ctx context.Context) ([]time.Duration, error) {
			return nil, parallel(goroutines, n, func(_, i int) error {
				m, err := ourMessage()
				if err != nil {
					return err
				}
				return p.Publish(ctx, messaging.Route{Exchange: exchange, Key: routingKeys[i%keys]}, m)
			})
		}
		return job{run, stop}, nil
	}
}

func ourConsume(ctx context.Context, b *broker, n int) (job, error) {
	conn, stop, err := connect(ctx, b)
	if err != nil {
		return job{}, err
	}
	run := func(ctx context.Context) ([]time.Duration, error) {
		var handled atomic.Int64
		done := make(chan struct{})
		mux := messaging.NewMux("")
		mux.Handle(benchType, messaging.JSON(func(_ context.Context, _ *messaging.Delivery, p payload) error {
			if p.Amount != 4200 {
				return messaging.Permanent(errors.New("wrong body"))
			}
			if handled.Add(1) == int64(n) {
				close(done)
			}
			return nil
		}))
		consumer, err := conn.Consume(work, mux.Handler(), messaging.Prefetch(prefetch))
		if err != nil {
			return nil, err
		}
		<-done
		return nil, consumer.Drain(ctx)
	}
	return job{run, stop}, nil
}

func ourCalls(callers int) func(context.Context, *broker, int) (job, error) {
	return func(ctx context.Context, b *broker, n int) (job, error) {
		server, stopServer, err := connect(ctx, b)
		if err != nil {
			return job{}, err
		}
		client, stopClient, err := connect(ctx, b)
		if err != nil {
			return job{}, err
		}
		replies, err := server.Publisher(messaging.WithoutConfirms())
		if err != nil {
			return job{}, err
		}
		mux := messaging.NewMux("")
		mux.Handle(ask.Request, messaging.Serve(replies, ask,
			func(_ context.Context, _ *messaging.Delivery, q question) (answer, error) {
				return answer{Order: q.Order, Total: 4200}, nil
			}))
		subscribed := make(chan struct{})
		_, err = server.Consume(messaging.Queue{Name: requests, Type: messaging.Classic}, mux.Handler(),
			messaging.Prefetch(callers), messaging.OnSubscribe(func() { close(subscribed) }))
		if err != nil {
			return job{}, err
		}
		<-subscribed
		caller := client.Caller()
		run := func(context.Context) ([]time.Duration, error) {
			return nil, parallel(callers, n, func(_, i int) error {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				reply, err := messaging.Call(ctx, caller, ask, question{Order: routingKeys[i%keys]})
				if err == nil && reply.Order != routingKeys[i%keys] {
					err = errors.New("the answer to another request")
				}
				return err
			})
		}
		return job{run, func() error { return errors.Join(stopClient(), stopServer()) }}, nil
	}
}

func ourPaced(ctx context.Context, b *broker, n int) (job, error) {
	conn, stop, err := connect(ctx, b)
	if err != nil {
		return job{}, err
	}
	p, err := conn.Publisher()
	if err != nil {
		return job{}, err
	}
	l := newLatencies(n)
	var handled atomic.Int64
	done := make(chan struct{})
	subscribed := make(chan struct{})
	mux := messaging.NewMux("")
	mux.Handle(benchType, messaging.JSON(func(_ context.Context, d *messaging.Delivery, _ payload) error {
		l.arrived(d.ID)
		if handled.Add(1) == int64(n) {
			close(done)
		}
		return nil
	}))
	consumer, err := conn.Consume(work, mux.Handler(), messaging.Prefetch(prefetch), messaging.OnSubscribe(func() { close(subscribed) }))
	if err != nil {
		return job{}, err
	}
	<-subscribed
	run := func(ctx context.Context) ([]time.Duration, error) {
		confirmations := make([]*messaging.Confirmation, 0, n)
		err := l.send(n, func() (string, func() error, error) {
			m, err := ourMessage()
			return m.ID, func() error {
				confirmations = append(confirmations, p.PublishAsync(ctx, messaging.Route{Exchange: exchange, Key: routingKeys[0]}, m))
				return nil
			}, err
		})
		if err != nil {
			return nil, err
		}
		for _, c := range confirmations {
			if err := c.Wait(ctx); err != nil {
				return nil, err
			}
		}
		<-done
		return l.all(), consumer.Drain(ctx)
	}
	return job{run, stop}, nil
}
