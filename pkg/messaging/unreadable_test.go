package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// A message of another client that the library cannot read costs the connection that it comes
// over, each time. Only its own consumer is affected, and it ends at the delivery limit.
func TestAMessageThatCannotBeRead(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	queue := declare(t, ch, "jobs", 5)
	core, logs := observer.New(zapcore.WarnLevel)
	config := b.Config()
	config.Logger = zap.New(core)
	conn := b.Connect(t, config)
	headers := amqp.Table{}
	for range 33 {
		headers = amqp.Table{"deeper": headers}
	}
	handled, beside := make(chan string, 10), make(chan struct{}, 10)
	consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		handled <- d.ID
		return nil
	}))
	require.NoError(t, err)
	_, err = conn.Consume(declare(t, ch, "others", 20), messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }),
		messaging.OnSubscribe(func() { beside <- struct{}{} }))
	require.NoError(t, err)
	next(t, beside)
	require.NoError(t, ch.PublishWithContext(t.Context(), "", "jobs", false, false, amqp.Publishing{MessageId: "deep", Headers: headers}))
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		n := b.Depth(t, "jobs.dead")
		return n == 1, fmt.Sprint(n, " are with the dead letters")
	})
	require.Equal(t, publishTo(t, conn, "jobs", "x").ID, next(t, handled))
	messagingtest.Eventually(t, 20*time.Second, isReady(consumer, true))
	require.Empty(t, beside, "the consumer beside it keeps its connection")
	require.NoError(t, conn.Ready())
	require.LessOrEqual(t, logs.FilterMessageSnippet("subscription").Len(), 5, "a few reasons")
}

// A connection that is lost while a consumer drains cancels the handlers, which the
// consumer waits for: nobody can settle what they do.
func TestALostConnectionWhileDraining(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(q *messaging.Queue){
		"work queue":             func(*messaging.Queue) {},
		"single active consumer": func(q *messaging.Queue) { q.SingleActiveConsumer = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			queue := declare(t, raw(t, b), "jobs", 20)
			change(&queue)
			config := b.Config()
			verdicts := make(chan messaging.Verdict, 10)
			config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { verdicts <- e.Verdict })}
			conn := b.Connect(t, config)
			causes, started := make(chan error, 10), make(chan struct{}, 10)
			consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
				started <- struct{}{}
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return context.Cause(ctx)
			}), messaging.HandlerTimeout(time.Hour))
			require.NoError(t, err)
			publishTo(t, conn, "jobs", "x")
			next(t, started)
			drained := make(chan error, 1)
			go func() { drained <- consumer.Drain(within(t, time.Minute)) }()
			if !queue.SingleActiveConsumer {
				messagingtest.Eventually(t, 20*time.Second, isReady(consumer, false))
			}
			b.CloseAllConnections(t)
			require.ErrorIs(t, next(t, causes), messaging.ErrConnectionLost)
			require.NoError(t, next(t, drained))
			require.Equal(t, messaging.Stale, next(t, verdicts))
		})
	}
}

// All tries in place together take no longer than the handler's timeout and
// the time in place, against which the consumer timeout is checked.
func TestTriesInPlaceEndInTime(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	const timeout, window = 2 * time.Second, time.Second
	queue := workQueue(t, b, func(q *messaging.Queue) { q.SingleActiveConsumer, q.Retry.InPlace = true, window })
	conn := b.Connect(t, b.Config())
	began := make(chan time.Time, 100)
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
		began <- time.Now()
		<-ctx.Done()
		return errors.New("hangs")
	}), messaging.HandlerTimeout(timeout))
	require.NoError(t, err)
	publishTo(t, conn, "jobs", "x")
	first := next(t, began)
	dead := get(t, raw(t, b), "jobs.dead")
	require.Less(t, time.Since(first), timeout+window+1500*time.Millisecond)
	require.Equal(t, "still failing after 1s: hangs", dead.Headers[messaging.HeaderDeadReason])
	require.Len(t, began, 1, "one more, with what was left")
}

// A try that is cut short says nothing about what is away.
func TestATryThatIsCutIsNoOutage(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := workQueue(t, b, func(q *messaging.Queue) { q.SingleActiveConsumer, q.Retry.InPlace = true, time.Second })
	conn := b.Connect(t, b.Config())
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		d.ID, d.Body = "another", nil // the copy is not made of this
		timer := time.NewTimer(400 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return errors.New("broken")
		case <-ctx.Done():
			return messaging.Unavailable(ctx.Err())
		}
	})) // tries after 0.5 and 1.1 s, and 0.3 s are left for that
	require.NoError(t, err)
	sent := publishTo(t, conn, "jobs", "x")
	dead := get(t, raw(t, b), "jobs.dead")
	require.Equal(t, sent.ID, dead.MessageId)
	require.Equal(t, `"x"`, string(dead.Body))
	require.Contains(t, dead.Headers[messaging.HeaderDeadReason], "still failing after 1s")
}

// An outage that is longer than the consumer timeout: the broker takes the message back
// each time, uncounted, and it keeps its place.
func TestAnOutageOutlastsTheConsumerTimeout(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := messaging.Queue{Name: "jobs", Type: messaging.Quorum, SingleActiveConsumer: true, ConsumerTimeout: 2 * time.Second}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
	queue.ConsumerTimeout = 0 // left out of the description, or Consume would refuse it
	o := newOutage(t, b)
	for i := range 3 {
		publishTo(t, o.conn, "jobs", i)
	}
	subscriptions := make(chan struct{}, 100)
	_, err := o.conn.Consume(queue, o, messaging.OnSubscribe(func() { subscriptions <- struct{}{} }))
	require.NoError(t, err)
	for range 4 { // three times by the broker's cancel
		next(t, subscriptions)
	}
	require.ErrorContains(t, o.conn.Ready(), "away: no database")
	o.down.Store(false)
	for i := range 3 {
		require.Equal(t, fmt.Sprint(i), next(t, o.done))
	}
	require.Zero(t, o.counted())
}
