package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// calls notes when and as which attempt a handler was called.
type calls struct {
	mu     sync.Mutex
	times  []time.Time
	number []int
}

func (c *calls) note(d *messaging.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times, c.number = append(c.times, time.Now()), append(c.number, d.Attempt)
}

func (c *calls) attempts() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]int(nil), c.number...)
}

// The policy is the same whether the broker or the consumer applies it: the same number of
// attempts, and delays that are not shorter than they should be.
func TestOneRetryPolicyForEveryKindOfQueue(t *testing.T) {
	t.Parallel()
	const least = 200 * time.Millisecond
	retry := messaging.Retry{Limit: 3, MinDelay: least, MaxDelay: 2 * least}
	delays := []time.Duration{least, 2 * least, 2 * least}
	for name, queue := range map[string]messaging.Queue{
		"quorum":                 {Type: messaging.Quorum},
		"classic":                {Type: messaging.Classic},
		"single active consumer": {Type: messaging.Quorum, SingleActiveConsumer: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			queue.Name, queue.Retry = "jobs", retry
			if queue.SingleActiveConsumer {
				queue.Retry.InPlace = -1
			}
			require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
			config := b.Config()
			verdicts := make(chan messaging.Verdict, 10)
			config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { verdicts <- e.Verdict })}
			conn := b.Connect(t, config)
			var seen calls
			_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				seen.note(d)
				return errors.New("broken")
			}))
			require.NoError(t, err)
			publishTo(t, conn, "jobs", "x")
			for next(t, verdicts) != messaging.Discarded {
				continue
			}
			require.Equal(t, []int{1, 2, 3, 4}, seen.attempts())
			for i, delay := range delays {
				require.GreaterOrEqual(t, seen.times[i+1].Sub(seen.times[i]), delay-20*time.Millisecond, i)
			}
		})
	}
}

// To give a message back is not an attempt. The message comes again after a while, and the
// consumer can stop meanwhile.
func TestGiveBackIsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  string
		queue messaging.Queue
		want  []int
	}{
		"quorum":                 {"quorum", messaging.Queue{Type: messaging.Quorum}, []int{1, 1, 1, 1}},
		"single active consumer": {"quorum", messaging.Queue{Type: messaging.Quorum, SingleActiveConsumer: true}, []int{1, 1, 1, 1}},
		"classic":                {"classic", messaging.Queue{Type: messaging.Classic}, []int{1, 2, 2, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			_, err := ch.QueueDeclare("jobs", true, false, false, false, amqp.Table{"x-queue-type": c.kind, "x-single-active-consumer": c.queue.SingleActiveConsumer})
			require.NoError(t, err)
			c.queue.Name = "jobs"
			conn := b.Connect(t, b.Config())
			var seen calls
			last := make(chan struct{})
			consumer, err := conn.Consume(c.queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				seen.note(d)
				switch len(seen.attempts()) {
				case len(c.want):
					close(last)
					return messaging.GiveBack(errors.New("not mine"), time.Hour)
				default:
					return fmt.Errorf("handle: %w", messaging.GiveBack(errors.New("not mine"), 200*time.Millisecond))
				}
			}))
			require.NoError(t, err)
			publishTo(t, conn, "jobs", "x")
			next(t, last)
			require.NoError(t, consumer.Drain(within(t, 10*time.Second)), "the wait ends")
			require.Equal(t, c.want, seen.attempts())
			for i := range len(c.want) - 1 {
				require.GreaterOrEqual(t, seen.times[i+1].Sub(seen.times[i]), 180*time.Millisecond)
			}
			messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
				n := b.Depth(t, "jobs")
				return n == 1, fmt.Sprint(n, " are back")
			})
		})
	}
}

// On a queue that keeps order, what is given back keeps its place.
func TestGiveBackKeepsOrder(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := messaging.Queue{Name: "jobs", Type: messaging.Quorum, SingleActiveConsumer: true}
	require.NoError(t, messaging.Apply(within(t, time.Minute), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
	conn := b.Connect(t, b.Config())
	var want []string
	for i := range 5 {
		want = append(want, publishTo(t, conn, "jobs", i).ID)
	}
	handled := make(chan string, len(want))
	times := map[string]int{}
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		if times[d.ID]++; times[d.ID] < 3 {
			return messaging.GiveBack(errors.New("later"), 0)
		}
		handled <- d.ID
		return nil
	}))
	require.NoError(t, err)
	for _, id := range want {
		require.Equal(t, id, next(t, handled))
	}
}

// Tries in place are no attempts, and have the handler's timeout together.
func TestRetryInPlaceIsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  string
		queue messaging.Queue
	}{
		"quorum":  {"quorum", messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 1}}},
		"classic": {"classic", messaging.Queue{Type: messaging.Classic, Retry: messaging.Retry{Limit: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			_, err := ch.QueueDeclare("jobs", true, false, false, false, amqp.Table{"x-queue-type": c.kind})
			require.NoError(t, err)
			c.queue.Name = "jobs"
			config := b.Config()
			verdicts := make(chan messaging.Verdict, 10)
			config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { verdicts <- e.Verdict })}
			conn := b.Connect(t, config)
			const timeout = time.Second
			var seen calls
			_, err = conn.Consume(c.queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				seen.note(d)
				return messaging.RetryInPlace(errors.New("conflict"))
			}), messaging.HandlerTimeout(timeout))
			require.NoError(t, err)
			publishTo(t, conn, "jobs", "x")
			for next(t, verdicts) != messaging.Discarded {
				continue
			}
			// Tries after 0, 100, 300 and 700 ms; the next one would be after 1.5 s.
			require.Equal(t, []int{1, 1, 1, 1, 2, 2, 2, 2}, seen.attempts())
			for _, first := range []int{0, 4} {
				require.Less(t, seen.times[first+3].Sub(seen.times[first]), timeout)
			}
		})
	}
}
