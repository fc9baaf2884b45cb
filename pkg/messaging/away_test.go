package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

var errNoDatabase = errors.New("no database")

// outage is a handler that needs a database, and what became of its messages.
type outage struct {
	ledger
	conn *messaging.Conn

	down  atomic.Bool
	calls atomic.Int32
	done  chan string // bodies that were handled
	told  chan error  // by OnAway
}

// newOutage begins with the database away.
func newOutage(t *testing.T, b *messagingtest.BrokerInfo) *outage {
	t.Helper()
	o := &outage{done: make(chan string, 1000), told: make(chan error, 100)}
	o.deliveries, o.verdicts = map[string][]counts{}, map[string][]messaging.Verdict{}
	o.down.Store(true)
	config := b.Config()
	config.Observers = []messaging.Observer{o}
	o.conn = b.Connect(t, config)
	return o
}

// OnAway passes on what an observer is told.
func (o *outage) OnAway(e messaging.AwayEvent) { o.told <- e.Err }

// Handle fails for everything while the database is away, and always for "poison".
func (o *outage) Handle(_ context.Context, d *messaging.Delivery) error {
	o.delivered(d)
	o.calls.Add(1)
	if o.down.Load() {
		return messaging.Unavailable(errNoDatabase)
	}
	if string(d.Body) == `"poison"` {
		return fmt.Errorf("charge: %w", messaging.Unavailable(errors.New("the provider hangs")))
	}
	o.done <- string(d.Body)
	return nil
}

// counted is the highest number of attempts that the broker has counted.
func (o *outage) counted() (most int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, deliveries := range o.deliveries {
		for _, c := range deliveries {
			n, _ := c.delivery.(int64)
			most = max(most, n)
		}
	}
	return most
}

// An outage does not count attempts, and the messages are handled when it is over. Meanwhile
// the consumer tries seldom, and reports what is away.
func TestAnOutageCountsNothing(t *testing.T) {
	t.Parallel()
	const messages = 30
	for name, c := range map[string]struct {
		kind    string
		queue   messaging.Queue
		options []messaging.ConsumeOption
	}{
		"one at a time":          {"quorum", messaging.Queue{Type: messaging.Quorum}, nil},
		"many":                   {"quorum", messaging.Queue{Type: messaging.Quorum}, []messaging.ConsumeOption{messaging.Concurrency(8), messaging.Prefetch(20)}},
		"classic":                {"classic", messaging.Queue{Type: messaging.Classic}, []messaging.ConsumeOption{messaging.Concurrency(2)}},
		"not said":               {"quorum", messaging.Queue{}, nil},
		"single active consumer": {"quorum", messaging.Queue{Type: messaging.Quorum, SingleActiveConsumer: true, Retry: messaging.Retry{InPlace: time.Second}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			_, err := ch.QueueDeclare("jobs", true, false, false, false, amqp.Table{"x-queue-type": c.kind, "x-single-active-consumer": c.queue.SingleActiveConsumer})
			require.NoError(t, err)
			c.queue.Name = "jobs"
			o := newOutage(t, b)
			for i := range messages {
				publishTo(t, o.conn, "jobs", i)
			}
			consumer, err := o.conn.Consume(c.queue, o, c.options...)
			require.NoError(t, err)
			require.ErrorContains(t, next(t, o.told), "no database")
			for _, ready := range []func() error{consumer.Ready, o.conn.Ready} {
				require.ErrorContains(t, ready(), `queue "jobs": away: no database`)
			}
			began := o.calls.Load()
			require.Less(t, began, int32(20))
			messagingtest.Eventually(t, time.Minute, func() (bool, string) { // pauses of about 1, 2 and 4 s
				n := o.calls.Load() - began
				return n >= 3, fmt.Sprint(n, " tries")
			})
			require.Empty(t, o.done)
			o.down.Store(false)
			seen := map[string]bool{}
			for len(seen) < messages {
				body := next(t, o.done)
				if c.queue.SingleActiveConsumer {
					require.Equal(t, fmt.Sprint(len(seen)), body, "in order")
				}
				seen[body] = true
			}
			require.NoError(t, next(t, o.told))
			messagingtest.Eventually(t, 10*time.Second, isReady(consumer, true))
			require.Zero(t, o.counted())
			require.NoError(t, consumer.Drain(within(t, 10*time.Second)))
			empty(t, b, "jobs")
		})
	}
}

// A message that is always Unavailable while others are handled is parked at its limit and does
// not block the others: also with one message at a time, and with several such messages.
func TestAMessageThatIsAlwaysUnavailable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		poison  int
		options []messaging.ConsumeOption
	}{
		"one at a time": {1, nil},
		"concurrent":    {1, []messaging.ConsumeOption{messaging.Concurrency(4)}},
		"five of them":  {5, nil},
		"prefetched":    {5, []messaging.ConsumeOption{messaging.Concurrency(2), messaging.Prefetch(20)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			queue := workQueue(t, b, func(q *messaging.Queue) { q.Retry.Limit = 2 })
			o := newOutage(t, b)
			o.down.Store(false)
			for range c.poison {
				publishTo(t, o.conn, "jobs", "poison")
			}
			for i := range 20 {
				publishTo(t, o.conn, "jobs", i)
			}
			_, err := o.conn.Consume(queue, o, c.options...)
			require.NoError(t, err)
			for range 20 {
				next(t, o.done)
			}
			ctx, stop := context.WithCancel(t.Context())
			var load sync.WaitGroup
			load.Go(func() { // others come and are handled
				p := publisher(t, o.conn)
				for ctx.Err() == nil {
					m, err := messaging.NewMessage(work, "other")
					if err != nil || p.Publish(ctx, messaging.Route{Key: "jobs"}, m) != nil {
						return
					}
					select {
					case <-o.done:
					case <-ctx.Done():
					}
				}
			})
			messagingtest.Eventually(t, time.Minute, func() (bool, string) {
				n := b.Depth(t, "jobs.dead")
				return n == c.poison, fmt.Sprint(n, " are parked")
			})
			stop()
			load.Wait()
			dead := get(t, raw(t, b), "jobs.dead")
			require.Equal(t, "charge: the provider hangs", dead.Headers[messaging.HeaderDeadReason])
			require.EqualValues(t, 3, dead.Headers[messaging.HeaderDeadAttempts])
		})
	}
}

// UnavailableFor asks for a longer pause. A consumer that stops does not wait for its end.
func TestAPauseThatIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(q *messaging.Queue){
		"work queue":             nil,
		"single active consumer": func(q *messaging.Queue) { q.SingleActiveConsumer = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			queue := workQueue(t, b, change)
			o := newOutage(t, b)
			calls := make(chan time.Time, 10)
			consumer, err := o.conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
				calls <- time.Now()
				if len(o.told) > 0 {
					return messaging.UnavailableFor(errNoDatabase, time.Hour) // no longer than 5 min
				}
				return messaging.UnavailableFor(errNoDatabase, 5*time.Second)
			}))
			require.NoError(t, err)
			publishTo(t, o.conn, "jobs", "x")
			first := next(t, calls)
			require.GreaterOrEqual(t, next(t, calls).Sub(first), 5*time.Second)
			messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
				n := b.Depth(t, "jobs")
				return n == 1 || queue.SingleActiveConsumer, fmt.Sprint(n, " are back")
			})
			began := time.Now()
			require.NoError(t, consumer.Drain(within(t, 20*time.Second)))
			require.Less(t, time.Since(began), 5*time.Second)
			require.ErrorContains(t, next(t, o.told), "no database")
			require.NoError(t, next(t, o.told), "a consumer that is gone")
			if !queue.SingleActiveConsumer {
				require.NotContains(t, get(t, raw(t, b), "jobs").Headers, "x-delivery-count")
			}
		})
	}
}
