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

// An incomplete description of a queue never loses a message: the broker dead-letters it as the
// queue is set up.
func TestAnIncompleteDescriptionLosesNothing(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]messaging.Queue{
		"the name only":  {},
		"and the type":   {Type: messaging.Quorum},
		"a wrong type":   {Type: messaging.Classic},
		"no overflow":    {Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}, DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters", Key: "live"}},
		"keeps order":    {SingleActiveConsumer: true},
		"a wrong target": {Type: messaging.Quorum, DeadLetter: &messaging.DeadLetter{Exchange: "missing", Key: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			declare(t, ch, "live", 20)
			queue.Name = "live"
			config := b.Config()
			verdicts := make(chan messaging.Verdict, 10)
			config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { verdicts <- e.Verdict })}
			conn := b.Connect(t, config)
			_, err := conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
				return messaging.Permanent(errors.New("broken"))
			}))
			require.NoError(t, err)
			sent := publishTo(t, conn, "live", "x")
			want := messaging.Discarded
			if queue.DeadLetter != nil {
				want = messaging.Parked
			}
			require.Equal(t, want, next(t, verdicts))
			require.Equal(t, sent.ID, get(t, ch, "live.dead").MessageId)
		})
	}
}

// The broker delays nothing here, so the consumer does, and after the last attempt it
// gives up. The delays are 100 ms, doubling to 5 s.
func TestRetriesThatTheBrokerDoesNotDelay(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		arguments amqp.Table
		queue     messaging.Queue
		attempts  int
	}{
		"quorum with a limit":  {amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 3}, messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 3}}, 4},
		"quorum":               {amqp.Table{"x-queue-type": "quorum"}, messaging.Queue{Type: messaging.Quorum}, 21},
		"classic with a limit": {amqp.Table{"x-queue-type": "classic"}, messaging.Queue{Type: messaging.Classic, Retry: messaging.Retry{Limit: 3}}, 4},
		"classic":              {amqp.Table{"x-queue-type": "classic"}, messaging.Queue{Type: messaging.Classic}, 21},
		"quorum, not said":     {amqp.Table{"x-queue-type": "quorum"}, messaging.Queue{}, 21},
		"classic, not said":    {amqp.Table{"x-queue-type": "classic"}, messaging.Queue{}, 21},
	}
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	conn := b.Connect(t, b.Config())
	var mu sync.Mutex
	numbers, times := map[string][]int{}, map[string][]time.Time{}
	for name, c := range cases { // all at once: each takes 76 s
		c.queue.Name = name
		_, err := ch.QueueDeclare(name+".dead", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
		require.NoError(t, err)
		c.arguments["x-dead-letter-exchange"], c.arguments["x-dead-letter-routing-key"] = "", name+".dead"
		_, err = ch.QueueDeclare(name, true, false, false, false, c.arguments)
		require.NoError(t, err)
		_, err = conn.Consume(c.queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			numbers[name], times[name] = append(numbers[name], d.Attempt), append(times[name], time.Now())
			return errors.New("broken")
		}))
		require.NoError(t, err)
		publishTo(t, conn, name, "x")
	}
	for name, c := range cases {
		messagingtest.Eventually(t, 3*time.Minute, func() (bool, string) {
			mu.Lock()
			defer mu.Unlock()
			return len(numbers[name]) >= c.attempts, fmt.Sprint(name, numbers[name])
		})
		get(t, ch, name+".dead")
		mu.Lock()
		delay := 100 * time.Millisecond
		for i, number := range numbers[name] {
			require.Equal(t, i+1, number)
			if i > 0 {
				require.GreaterOrEqual(t, times[name][i].Sub(times[name][i-1]), delay)
				delay = min(2*delay, 5*time.Second)
			}
		}
		require.Len(t, numbers[name], c.attempts, name)
		mu.Unlock()
	}
}

// A consumer that stops does not wait for the delay, and what waits goes back uncounted.
func TestAStopEndsTheDelay(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]messaging.Queue{
		"before the reject": {Name: "jobs", Type: messaging.Quorum},
		"in place":          {Name: "jobs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			declare(t, ch, "jobs", 20)
			conn := b.Connect(t, b.Config())
			attempts := make(chan int, 10)
			consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				attempts <- d.Attempt
				return errors.New("broken")
			}))
			require.NoError(t, err)
			publishTo(t, conn, "jobs", "x")
			for n := range 5 { // the delay behind this one is 1.6 s
				require.Equal(t, n+1, next(t, attempts))
			}
			began := time.Now()
			require.NoError(t, consumer.Drain(within(t, 10*time.Second)))
			require.Less(t, time.Since(began), 1500*time.Millisecond)
			want := any(int64(4))
			if queue.Type == "" {
				want = nil
			}
			require.Equal(t, want, get(t, ch, "jobs").Headers["x-delivery-count"])
		})
	}
}

// The number of an attempt comes from the broker, never from the publisher.
func TestForgedCountsChangeNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind    string
		queue   messaging.Queue
		headers amqp.Table
	}{
		"quorum":       {"quorum", messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}}, amqp.Table{"x-delivery-count": int64(20)}},
		"both counts":  {"quorum", messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}}, amqp.Table{"x-delivery-count": int64(20), "x-acquired-count": int64(20)}},
		"another type": {"quorum", messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}}, amqp.Table{"x-delivery-count": int32(20)}},
		"a text":       {"quorum", messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}}, amqp.Table{"x-delivery-count": "20"}},
		"negative":     {"quorum", messaging.Queue{Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}}, amqp.Table{"x-delivery-count": int64(-5), "x-acquired-count": int64(-5)}},
		"classic":      {"classic", messaging.Queue{Type: messaging.Classic}, amqp.Table{"x-delivery-count": int64(20), "x-acquired-count": int64(20)}},
		"not said":     {"quorum", messaging.Queue{}, amqp.Table{"x-delivery-count": int64(20), "x-acquired-count": int64(20)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			c.queue.Name = "live"
			_, err := ch.QueueDeclare("live", true, false, false, false, amqp.Table{"x-queue-type": c.kind})
			require.NoError(t, err)
			c.headers["x-stream-offset"] = int64(7)
			require.NoError(t, ch.PublishWithContext(t.Context(), "", "live", false, false, amqp.Publishing{MessageId: "m", Headers: c.headers}))
			attempts := make(chan [3]int64, 10)
			conn := b.Connect(t, b.Config())
			consume := func(fail bool) *messaging.Consumer {
				began := false
				consumer, err := conn.Consume(c.queue, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
					attempts <- [3]int64{int64(d.Attempt), int64(d.Acquired), d.Offset}
					if fail || began {
						return nil
					}
					began = true
					<-ctx.Done()
					return context.Cause(ctx)
				}))
				require.NoError(t, err)
				return consumer
			}
			first := consume(false)
			require.Equal(t, [3]int64{1, 0, 0}, next(t, attempts))
			require.NoError(t, first.Stop(within(t, 10*time.Second))) // given back, and not counted
			consume(true)
			again := [3]int64{1, 1, 0}
			if c.queue.Type != messaging.Quorum {
				again = [3]int64{2, 0, 0}
			}
			require.Equal(t, again, next(t, attempts))
		})
	}
}

// A message of another client is parked unchanged, with the reason, also if it has values that
// are refused in our own messages.
func TestParkingKeepsWhatOthersSend(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	queue := declare(t, ch, "jobs", 20)
	conn := b.Connect(t, b.Config())
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		return messaging.Permanent(errors.New("broken\x00 \xff"))
	}))
	require.NoError(t, err)
	for name, m := range map[string]amqp.Publishing{
		"a zero byte":    {MessageId: "a\x00b", Type: "c\x00", CorrelationId: "\x00"},
		"not UTF-8":      {MessageId: "a\xffb", Type: "\xff", ContentType: "\xff"},
		"headers":        {MessageId: "headers", Headers: amqp.Table{"a\x00\xff": "b\x00\xff"}},
		"a number of 64": {MessageId: "number", Headers: amqp.Table{"n": int64(1 << 40), "d": amqp.Decimal{Scale: 2, Value: 5}}},
	} {
		require.NoError(t, ch.PublishWithContext(t.Context(), "", "jobs", false, false, m), name)
		dead := get(t, ch, "jobs.dead")
		require.Equal(t, m.MessageId, dead.MessageId)
		require.Equal(t, m.Type, dead.Type)
		require.Equal(t, "broken\x00 \uFFFD", dead.Headers[messaging.HeaderDeadReason], name)
		for key, value := range m.Headers {
			require.Equal(t, value, dead.Headers[key])
		}
	}
}
