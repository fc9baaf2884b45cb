package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestPrefetchBoundsWhatIsInHand(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := workQueue(t, b, nil)
	conn := b.Connect(t, b.Config())
	for i := range 20 {
		publishTo(t, conn, "jobs", i)
	}
	started, release := make(chan struct{}, 20), make(chan struct{})
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		started <- struct{}{}
		<-release
		return nil
	}), messaging.Concurrency(2), messaging.Prefetch(5))
	require.NoError(t, err)
	next(t, started)
	next(t, started)
	inHand := func() {
		t.Helper()
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			n := unacknowledged(t, b)
			return n == "5", n + " are in hand"
		})
	}
	inHand()
	publishTo(t, conn, "jobs", "one more") // it would go out behind the others
	inHand()
	require.Equal(t, 16, b.Depth(t, "jobs"))
	require.Empty(t, started, "two are handled at once")
	close(release)
	for range 19 {
		next(t, started)
	}
}

func TestAutoAck(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := workQueue(t, b, nil)
	config := b.Config()
	settled := make(chan messaging.Verdict, 10)
	config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { settled <- e.Verdict })}
	conn := b.Connect(t, config)
	for i := range 3 {
		publishTo(t, conn, "jobs", i)
	}
	release := make(chan struct{})
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		<-release
		if string(d.Body) == "1" {
			return errors.New("too late")
		}
		return nil
	}), messaging.AutoAck())
	require.NoError(t, err)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		n := b.Unsettled(t, "jobs")
		return n == 0, fmt.Sprintf("the broker still has %d", n)
	})
	close(release)
	for _, want := range []messaging.Verdict{messaging.Acked, messaging.Dropped, messaging.Acked} {
		require.Equal(t, want, next(t, settled))
	}
	require.Zero(t, b.Depth(t, "jobs.dead"))
}

func TestExclusiveConsumer(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := messaging.Queue{Name: "jobs", Type: messaging.Classic}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
	conn := b.Connect(t, b.Config())
	nothing := messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil })
	first, err := conn.Consume(queue, nothing, messaging.ExclusiveConsumer())
	require.NoError(t, err)
	messagingtest.Eventually(t, 20*time.Second, isReady(first, true))
	second, err := conn.Consume(queue, nothing)
	require.NoError(t, err)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		err := second.Ready()
		require.Error(t, err)
		return strings.Contains(err.Error(), "in exclusive use"), err.Error()
	})
	require.NoError(t, first.Drain(within(t, 10*time.Second)))
	messagingtest.Eventually(t, 20*time.Second, isReady(second, true))
}

func TestConsumerPriority(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := workQueue(t, b, nil)
	conn := b.Connect(t, b.Config())
	got := make(chan string, 10)
	consume := func(name string, priority int) *messaging.Consumer {
		c, err := conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
			got <- name
			return nil
		}), messaging.ConsumerPriority(priority), messaging.Prefetch(20))
		require.NoError(t, err)
		messagingtest.Eventually(t, 20*time.Second, isReady(c, true))
		return c
	}
	consume("low", -1)
	high := consume("high", 5)
	for i := range 10 {
		publishTo(t, conn, "jobs", i)
		require.Equal(t, "high", next(t, got), "it has room")
	}
	require.NoError(t, high.Drain(within(t, 10*time.Second)))
	publishTo(t, conn, "jobs", "x")
	require.Equal(t, "low", next(t, got))
}

// What fails on a queue that keeps order is tried again in place, and given up after
// a while, so that what is behind it goes on.
func TestRetryInPlaceGivesUp(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := workQueue(t, b, func(q *messaging.Queue) { q.SingleActiveConsumer, q.Retry.InPlace = true, 300*time.Millisecond })
	conn := b.Connect(t, b.Config())
	bad, good := publishTo(t, conn, "jobs", "bad"), publishTo(t, conn, "jobs", "good")
	var tries atomic.Int32
	handled := make(chan string, 10)
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		if d.ID == bad.ID {
			tries.Add(1)
			return errors.New("provider is down")
		}
		handled <- d.ID
		return nil
	}))
	require.NoError(t, err)
	require.Equal(t, good.ID, next(t, handled))
	require.Greater(t, tries.Load(), int32(1))
	dead := get(t, raw(t, b), "jobs.dead")
	require.Equal(t, bad.ID, dead.MessageId)
	require.Equal(t, "still failing after 300ms: provider is down", dead.Headers[messaging.HeaderDeadReason])
	require.EqualValues(t, 1, dead.Headers[messaging.HeaderDeadAttempts], "the broker has seen one")
}
