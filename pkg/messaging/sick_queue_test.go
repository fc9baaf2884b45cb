package messaging_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// flow publishes to a queue and handles what it gets, and knows the longest time that a
// message took.
type flow struct {
	handled       atomic.Int64
	slowest       atomic.Int64
	subscriptions atomic.Int64
}

func (f *flow) start(ctx context.Context, t *testing.T, conn *messaging.Conn, queue messaging.Queue) {
	t.Helper()
	_, err := conn.Consume(queue, messaging.JSON(func(_ context.Context, d *messaging.Delivery, sent int64) error {
		f.handled.Add(1)
		f.slowest.Store(max(f.slowest.Load(), time.Now().UnixNano()-sent))
		return nil
	}), messaging.Prefetch(20), messaging.OnSubscribe(func() { f.subscriptions.Add(1) }))
	require.NoError(t, err)
	p := publisher(t, conn)
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			m, err := messaging.NewMessage(work, time.Now().UnixNano())
			if err != nil {
				t.Error(err)
				return
			}
			if err := p.Publish(ctx, messaging.Route{Key: queue.Name}, m); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
}

// round gives how many messages were handled in a time, and how long the slowest took.
func (f *flow) round(t *testing.T, d time.Duration) (handled int64, slowest time.Duration) {
	t.Helper()
	before := f.handled.Load()
	f.slowest.Store(0)
	end := time.Now().Add(d)
	messagingtest.Eventually(t, d+time.Minute, func() (bool, string) { return time.Now().After(end), "the round is not over" })
	return f.handled.Load() - before, time.Duration(f.slowest.Load())
}

// The leader of one queue does not answer for 90 s, beside a consumer with handlers of
// 15 s and one that is busy, all on one Conn. Neither of them notices, also when the sick
// one is drained beside them, and the sick one goes on as soon as its queue does.
func TestASickQueueCostsItsOwnConsumerOnly(t *testing.T) {
	t.Parallel()
	const frozen, work15 = 90 * time.Second, 15 * time.Second
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	sick, slow, busy := declare(t, ch, "sick", 20), declare(t, ch, "slow", 20), declare(t, ch, "busy", 20)
	conn := b.Connect(t, b.Config())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	sickSeen := make(chan *messaging.Delivery, 10)
	consumeSick := func() *messaging.Consumer {
		c, err := conn.Consume(sick, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			sickSeen <- d
			return nil
		}))
		require.NoError(t, err)
		return c
	}
	attempts, finished := make(chan int, 100), make(chan error, 100)
	var slowSubscriptions atomic.Int64
	slowConsumer, err := conn.Consume(slow, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		attempts <- d.Attempt
		timer := time.NewTimer(work15)
		defer timer.Stop()
		select {
		case <-timer.C:
			finished <- nil
			return nil
		case <-ctx.Done():
			finished <- context.Cause(ctx)
			return context.Cause(ctx)
		}
	}), messaging.OnSubscribe(func() { slowSubscriptions.Add(1) }))
	require.NoError(t, err)
	drained := consumeSick()
	messagingtest.Eventually(t, 30*time.Second, isReady(drained, true))
	var flow flow
	flow.start(ctx, t, conn, busy)
	healthy, slowest := flow.round(t, 15*time.Second)

	// A new one of the sick queue waits in basic.consume; the one that is subscribed is
	// drained, which waits in basic.cancel.
	began := time.Now()
	thaw := b.Freeze(t, "sick")
	waiting := consumeSick()
	const rounds = 5
	for range rounds {
		require.NoError(t, ch.PublishWithContext(ctx, "", "slow", false, false, amqp.Publishing{MessageId: "m", Body: []byte("x")}))
	}
	draining := make(chan error, 1)
	go func() { draining <- drained.Drain(within(t, time.Minute)) }()
	slowHandled := 0
	for time.Since(began) < frozen {
		n, took := flow.round(t, 15*time.Second)
		t.Logf("%s: %d handled, %d without a fault; the slowest in %s, %s without", time.Since(began).Round(time.Second), n, healthy, took, slowest)
		require.Greater(t, n, healthy/2)
	}
	require.NoError(t, next(t, draining))
	for len(finished) > 0 {
		require.NoError(t, <-finished)
		slowHandled++
	}
	require.GreaterOrEqual(t, slowHandled, rounds-1)
	for len(attempts) > 0 {
		require.Equal(t, 1, <-attempts)
	}
	require.EqualValues(t, 1, flow.subscriptions.Load())
	require.EqualValues(t, 1, slowSubscriptions.Load())
	require.Error(t, waiting.Ready())

	// Draining all at once: the slow one finishes what it has in hand.
	require.NoError(t, ch.PublishWithContext(ctx, "", "slow", false, false, amqp.Publishing{MessageId: "last", Body: []byte("x")}))
	messagingtest.Eventually(t, time.Minute, func() (bool, string) { return len(attempts) > 0, "the last one is not in hand" })
	results := make(chan error, 2)
	beganToDrain := time.Now()
	for _, c := range []*messaging.Consumer{waiting, slowConsumer} {
		go func() { results <- c.Drain(within(t, time.Minute)) }()
	}
	require.NoError(t, next(t, results))
	require.Less(t, time.Since(beganToDrain), 10*time.Second, "of the sick one, which has nothing in hand")
	require.NoError(t, next(t, results))
	for len(finished) > 0 {
		require.NoError(t, <-finished)
	}
	for len(attempts) > 0 {
		require.Equal(t, 1, <-attempts)
	}
	thaw()
	sent := publishTo(t, conn, "sick", "x")
	consumeSick()
	d := next(t, sickSeen)
	require.Equal(t, sent.ID, d.ID)
	t.Logf("the sick queue's message is at attempt %d: the broker carried out what was given up", d.Attempt)
	stop()
	empty(t, b, "busy")
}

// To close a Conn with a consumer of a sick queue does not take longer than its context.
func TestClosingOverASickQueue(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	conn := b.Connect(t, b.Config())
	first, err := conn.Consume(declare(t, ch, "sick", 20), messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	messagingtest.Eventually(t, 30*time.Second, isReady(first, true))
	b.Freeze(t, "sick")
	_, err = conn.Consume(messaging.Queue{Name: "sick"}, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	err = conn.Close(ctx)
	require.Less(t, time.Since(began), 4*time.Second, fmt.Sprint(err))
}
