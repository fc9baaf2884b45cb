package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// counts are what the broker says about a delivery: nil is no header at all.
type counts struct{ delivery, acquired any }

// ledger is what was delivered and how it was settled, by the body of the message.
type ledger struct {
	mu         sync.Mutex
	deliveries map[string][]counts
	verdicts   map[string][]messaging.Verdict
	wrong      []string // what a Delivery says other than the headers
}

func (l *ledger) delivered(d *messaging.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := counts{d.Headers["x-delivery-count"], d.Headers["x-acquired-count"]}
	failed, _ := c.delivery.(int64)
	acquired, _ := c.acquired.(int64)
	if d.Attempt != int(failed)+1 || d.Acquired != int(acquired) {
		l.wrong = append(l.wrong, fmt.Sprintf("%+v is attempt %d, acquired %d", c, d.Attempt, d.Acquired))
	}
	body := string(d.Body)
	l.deliveries[body] = append(l.deliveries[body], c)
}

// OnSettle notes a verdict.
func (l *ledger) OnSettle(e messaging.SettleEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body := string(e.Delivery.Body)
	l.verdicts[body] = append(l.verdicts[body], e.Verdict)
}

// has says whether a message has had these verdicts.
func (l *ledger) has(body string, want []messaging.Verdict) func() (bool, string) {
	return func() (bool, string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Sprint(l.verdicts[body]) == fmt.Sprint(want), fmt.Sprintf("message %s: %v, waiting for %v", body, l.verdicts[body], want)
	}
}

// workQueue declares "jobs" as described, with its dead-letter queue.
func workQueue(t *testing.T, b *messagingtest.BrokerInfo, change func(q *messaging.Queue)) messaging.Queue {
	t.Helper()
	queue := messaging.Queue{
		Name: "jobs", Type: messaging.Quorum, Retry: messaging.Retry{Limit: 20}, Overflow: messaging.RejectPublish,
		DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters", Key: "jobs"},
	}
	if change != nil {
		change(&queue)
	}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "dead.letters", Kind: messaging.Direct}},
		Queues:    []messaging.Queue{{Name: "jobs.dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}}, queue},
		Bindings:  []messaging.Binding{{Source: "dead.letters", Destination: "jobs.dead", Key: "jobs"}},
	}))
	return queue
}

// unacknowledged is how many messages of "jobs" consumers hold.
func unacknowledged(t *testing.T, b *messagingtest.BrokerInfo) string {
	t.Helper()
	out := b.Exec(t, "rabbitmqctl", "-q", "-p", b.VHost, "list_queues", "--no-table-headers", "name", "messages_unacknowledged")
	for line := range strings.Lines(out) {
		if name, n, _ := strings.Cut(strings.TrimSpace(line), "\t"); name == "jobs" {
			return n
		}
	}
	return "no queue"
}

// twoInHand is a consumer that has two messages, "tried" and "untouched".
type twoInHand struct {
	ledger
	broker   *messagingtest.BrokerInfo
	conn     *messaging.Conn
	queue    messaging.Queue
	consumer *messaging.Consumer
	handle   func(ctx context.Context, d *messaging.Delivery) error // of "tried"
	options  []messaging.ConsumeOption
	inHand   chan struct{} // closed when the broker says so
}

// consume starts a consumer: the first one, and the one after a stop.
func (s *twoInHand) consume(t *testing.T) {
	t.Helper()
	var err error
	s.consumer, err = s.conn.Consume(s.queue, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		s.delivered(d)
		<-s.inHand
		if string(d.Body) != `"tried"` {
			return nil
		}
		return s.handle(ctx, d)
	}), s.options...)
	require.NoError(t, err)
}

// What each verdict costs, as the broker counts it, also for a message that was only
// prefetched meanwhile.
func TestWhatTheBrokerCounts(t *testing.T) {
	t.Parallel()
	const (
		acked, rejected, parked     = messaging.Acked, messaging.Rejected, messaging.Parked
		discarded, givenBack, stale = messaging.Discarded, messaging.GivenBack, messaging.Stale
	)
	errBroken := errors.New("broken")
	always := func(err error) func(context.Context, *messaging.Delivery) error {
		return func(context.Context, *messaging.Delivery) error { return err }
	}
	first := func(handle func(ctx context.Context) error) func(context.Context, *messaging.Delivery) error {
		return func(ctx context.Context, d *messaging.Delivery) error {
			if d.Acquired > 0 {
				return nil
			}
			return handle(ctx)
		}
	}
	untilDone := first(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	stop := func(t *testing.T, s *twoInHand) {
		t.Helper()
		require.NoError(t, s.consumer.Stop(within(t, 20*time.Second)))
		s.consume(t)
	}
	lose := func(t *testing.T, s *twoInHand) { t.Helper(); s.broker.CloseAllConnections(t) }
	single := func(q *messaging.Queue) { q.SingleActiveConsumer = true }
	twice := func(q *messaging.Queue) { q.Retry.Limit = 1 }
	nowhere := func(q *messaging.Queue) { q.DeadLetter = nil }
	fresh, back, counted := counts{nil, nil}, counts{nil, int64(1)}, counts{int64(1), int64(1)}

	type (
		verdicts   = []messaging.Verdict // of "tried"
		deliveries = []counts
	)
	cases := map[string]struct {
		handle    func(ctx context.Context, d *messaging.Delivery) error
		event     func(t *testing.T, s *twoInHand) // while both are in hand
		queue     func(q *messaging.Queue)
		verdicts  verdicts
		tried     deliveries
		untouched deliveries
	}{
		"an acknowledgement": {always(nil), nil, nil, verdicts{acked}, deliveries{fresh}, deliveries{fresh}},
		"an error": {first(func(context.Context) error { return errBroken }), nil, nil,
			verdicts{rejected, acked}, deliveries{fresh, counted}, deliveries{fresh}},
		"a panic": {first(func(context.Context) error { panic("oops") }), nil, nil,
			verdicts{rejected, acked}, deliveries{fresh, counted}, deliveries{fresh}},
		"a deadline": {untilDone, nil, nil, verdicts{rejected, acked}, deliveries{fresh, counted}, deliveries{fresh}},
		"a stop":     {untilDone, stop, nil, verdicts{givenBack, acked}, deliveries{fresh, back}, deliveries{back}},
		"a stop of a single active consumer": {untilDone, stop, single,
			verdicts{givenBack, acked}, deliveries{fresh, counted}, deliveries{fresh}},
		"a lost connection":           {untilDone, lose, nil, verdicts{stale, acked}, deliveries{fresh, counted}, deliveries{counted}},
		"permanent":                   {always(messaging.Permanent(errBroken)), nil, nil, verdicts{parked}, deliveries{fresh}, deliveries{fresh}},
		"permanent and nowhere to go": {always(messaging.Permanent(errBroken)), nil, nowhere, verdicts{discarded}, deliveries{fresh}, deliveries{fresh}},
		"the last attempt":            {always(errBroken), nil, twice, verdicts{rejected, parked}, deliveries{fresh, counted}, deliveries{fresh}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			s := &twoInHand{broker: b, queue: workQueue(t, b, c.queue), handle: c.handle, inHand: make(chan struct{})}
			s.deliveries, s.verdicts = map[string][]counts{}, map[string][]messaging.Verdict{}
			config := b.Config()
			config.Observers = []messaging.Observer{s}
			s.conn = b.Connect(t, config)
			if name == "a deadline" {
				s.options = append(s.options, messaging.HandlerTimeout(300*time.Millisecond))
			}
			prefetch := 2
			if s.queue.SingleActiveConsumer {
				prefetch = 1
			}
			s.options = append(s.options, messaging.Prefetch(prefetch))
			publishTo(t, s.conn, "jobs", "tried")
			publishTo(t, s.conn, "jobs", "untouched")
			s.consume(t)
			messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
				n := unacknowledged(t, b)
				return n == fmt.Sprint(prefetch), n + " are in hand"
			})
			close(s.inHand)
			if c.event != nil {
				c.event(t, s)
			}
			messagingtest.Eventually(t, 30*time.Second, s.has(`"tried"`, c.verdicts))
			messagingtest.Eventually(t, 30*time.Second, s.has(`"untouched"`, verdicts{acked}))
			s.mu.Lock()
			defer s.mu.Unlock()
			require.Equal(t, c.tried, s.deliveries[`"tried"`])
			require.Equal(t, c.untouched, s.deliveries[`"untouched"`])
			require.Empty(t, s.wrong)
			if c.verdicts[len(c.verdicts)-1] == parked {
				dead := get(t, raw(t, b), "jobs.dead")
				require.Equal(t, "broken", dead.Headers[messaging.HeaderDeadReason])
				require.NotContains(t, dead.Headers, "x-delivery-count")
				require.NotContains(t, dead.Headers, "x-acquired-count")
			}
		})
	}
}

// A parking whose copy nobody takes: the broker moves the original itself. It does not
// know the reason, and the attempts go on counting where a copy would begin anew.
func TestParkingWithoutACopy(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := workQueue(t, b, nil)
	queue.DeadLetter = &messaging.DeadLetter{Exchange: "missing", Key: "jobs"} // the policy has another one
	config := b.Config()
	settled := make(chan messaging.Verdict, 10)
	config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { settled <- e.Verdict })}
	conn := b.Connect(t, config)
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		if d.Attempt == 1 {
			return errors.New("not now")
		}
		return messaging.Permanent(errors.New("broken"))
	}))
	require.NoError(t, err)
	sent := publishTo(t, conn, "jobs", "x")
	require.Equal(t, messaging.Rejected, next(t, settled))
	require.Equal(t, messaging.Parked, next(t, settled))

	seen := make(chan *messaging.Delivery, 10)
	_, err = conn.Consume(messaging.Queue{Name: "jobs.dead", Type: messaging.Quorum}, messaging.HandlerFunc(
		func(_ context.Context, d *messaging.Delivery) error {
			seen <- d
			if d.Attempt == 3 {
				return errors.New("again")
			}
			return nil
		}))
	require.NoError(t, err)
	dead := next(t, seen)
	require.Equal(t, sent.ID, dead.ID)
	require.Equal(t, []messaging.Death{{Queue: "jobs", Reason: "rejected", Count: 1}}, dead.Deaths)
	require.NotContains(t, dead.Headers, messaging.HeaderDeadReason)
	require.Equal(t, 3, dead.Attempt, "the first one in this queue")
	dead = next(t, seen)
	require.Equal(t, 4, dead.Attempt)
	require.Equal(t, 1, dead.Acquired)
}
