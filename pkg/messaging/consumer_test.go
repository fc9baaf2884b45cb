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

func TestVerdicts(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	ch := raw(t, b)
	errBroken := errors.New("broken")

	cases := map[string]struct {
		handle   func(d *messaging.Delivery) error
		attempts int
		reason   string // of the parked copy; empty if it is not parked
	}{
		"nil acknowledges":            {func(*messaging.Delivery) error { return nil }, 1, ""},
		"an error is tried again":     {failTimes(2), 3, ""},
		"permanent parks at once":     {func(*messaging.Delivery) error { return messaging.Permanent(errBroken) }, 1, "broken"},
		"the last attempt parks":      {func(*messaging.Delivery) error { return errBroken }, 4, "broken"},
		"a panic is an error":         {func(*messaging.Delivery) error { panic("oops") }, 4, "handler panicked: oops"},
		"a wrapped permanent is kept": {func(*messaging.Delivery) error { return fmt.Errorf("charge: %w", messaging.Permanent(errBroken)) }, 1, "charge: broken"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			queue := declare(t, ch, "verdict "+name, 3)
			var mu sync.Mutex
			var attempts []int
			consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				mu.Lock()
				attempts = append(attempts, d.Attempt)
				mu.Unlock()
				return c.handle(d)
			}))
			require.NoError(t, err)
			sent := publishTo(t, conn, queue.Name, "x")

			if c.reason == "" {
				messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
					mu.Lock()
					defer mu.Unlock()
					return len(attempts) == c.attempts, fmt.Sprint(attempts)
				})
			} else {
				dead := get(t, ch, queue.Name+".dead")
				require.Equal(t, sent.ID, dead.MessageId)
				require.Equal(t, c.reason, dead.Headers[messaging.HeaderDeadReason])
				require.EqualValues(t, c.attempts, dead.Headers[messaging.HeaderDeadAttempts])
				require.Equal(t, owner, dead.Headers[messaging.HeaderDeadUser])
				require.NotContains(t, dead.Headers, "x-delivery-count")
			}
			require.NoError(t, consumer.Drain(within(t, 5*time.Second)))
			require.Len(t, attempts, c.attempts)
			for i, attempt := range attempts {
				require.Equal(t, i+1, attempt)
			}
			_, left, err := ch.Get(queue.Name, true)
			require.NoError(t, err)
			require.False(t, left, "settled")
		})
	}
}

// failTimes fails the first n attempts.
func failTimes(n int) func(d *messaging.Delivery) error {
	return func(d *messaging.Delivery) error {
		if d.Attempt <= n {
			return fmt.Errorf("attempt %d failed", d.Attempt)
		}
		return nil
	}
}

func TestStopGivesBackUncounted(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single active consumer %t", single), func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			conn := b.Connect(t, b.Config())
			queue := declare(t, ch, "jobs", 20)
			queue.SingleActiveConsumer = single
			for i := range 5 {
				publishTo(t, conn, "jobs", i)
			}
			started := make(chan struct{}, 5)
			consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
				started <- struct{}{}
				<-ctx.Done()
				return context.Cause(ctx)
			}))
			require.NoError(t, err)
			<-started
			require.NoError(t, consumer.Stop(within(t, 5*time.Second)))
			messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
				n := b.Depth(t, "jobs")
				return n == 5, fmt.Sprintf("%d of 5 are back", n)
			})
			for i := range 5 {
				d := get(t, ch, "jobs")
				require.Equal(t, fmt.Sprint(i), string(d.Body), "in order")
				if !single { // where order counts more, the closing channel counts one
					require.NotContains(t, d.Headers, "x-delivery-count", "not counted as an attempt")
				}
			}
		})
	}
}

func TestDrainLetsHandlersFinish(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	conn := b.Connect(t, b.Config())
	queue := declare(t, ch, "jobs", 20)
	for i := range 20 {
		publishTo(t, conn, "jobs", i)
	}
	started, finish := make(chan struct{}, 20), make(chan struct{})
	consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		started <- struct{}{}
		<-finish
		return nil
	}), messaging.Concurrency(2), messaging.Prefetch(10))
	require.NoError(t, err)
	next(t, started)
	next(t, started)
	drained := make(chan error, 1)
	go func() { drained <- consumer.Drain(within(t, 10*time.Second)) }()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return consumer.Ready() != nil, "not cancelled yet"
	})
	close(finish)
	require.NoError(t, next(t, drained))
	require.NoError(t, consumer.Ready())
	require.Empty(t, started, "nothing new was begun")
	for range 18 {
		require.NotContains(t, get(t, ch, "jobs").Headers, "x-delivery-count")
	}
	_, left, err := ch.Get("jobs", true)
	require.NoError(t, err)
	require.False(t, left, "the two that were handled are acknowledged")
}

func TestConsumerSubscribesAgain(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	handled := make(chan string, 10)
	queue := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		handled <- d.ID
		return nil
	}))
	require.NoError(t, err)
	works := func(t *testing.T) {
		t.Helper()
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			err := consumer.Ready()
			return err == nil, fmt.Sprint(err)
		})
		require.Equal(t, publishTo(t, conn, "jobs", "x").ID, next(t, handled))
	}
	ch := raw(t, b)
	require.ErrorContains(t, consumer.Ready(), "not subscribed", "the queue is not there yet")
	declare(t, ch, "jobs", 20)
	works(t)

	_, err = ch.QueueDelete("jobs", false, false, false)
	require.NoError(t, err)
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) { return consumer.Ready() != nil, "still ready" })
	declare(t, ch, "jobs", 20)
	works(t)

	b.CloseAllConnections(t)
	works(t)
}

func TestNothingIsLostWhenConnectionsDrop(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	conn := b.Connect(t, b.Config())
	sent := map[string]bool{}
	for i := range 60 {
		sent[publishTo(t, conn, "jobs", i).ID] = true
	}
	var mu sync.Mutex
	done := map[string]int{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(done) }
	_, err := conn.Consume(messaging.Queue{Name: "jobs", Type: messaging.Quorum}, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		work := time.NewTimer(time.Duration(100+len(d.ID)) * time.Millisecond)
		defer work.Stop()
		select {
		case <-work.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		done[d.ID]++
		return nil
	}), messaging.Concurrency(5), messaging.Prefetch(10))
	require.NoError(t, err)
	for _, n := range []int{5, 20, 35} {
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { return count() >= n, fmt.Sprint(count()) })
		b.CloseAllConnections(t)
	}
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { return count() == len(sent), fmt.Sprint(count()) })
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := b.Depth(t, "jobs")
		return n == 0, fmt.Sprint(n)
	})
}

func TestSingleActiveConsumerKeepsOrderAcrossAHandOver(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	_, err := ch.QueueDeclare("shard", true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-single-active-consumer": true})
	require.NoError(t, err)
	queue := messaging.Queue{Name: "shard", Type: messaging.Quorum, SingleActiveConsumer: true}
	conns := []*messaging.Conn{b.Connect(t, b.Config()), b.Connect(t, b.Config())}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.Exec(t, "rabbitmqctl", "-p", b.VHost, "list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers"))
			t.Log(b.Exec(t, "rabbitmqctl", "-p", b.VHost, "list_consumers", "consumer_tag", "active", "activity_status", "arguments"))
		}
	})
	const n = 200
	p := publisher(t, conns[0])
	for i := range n {
		require.NoError(t, p.Publish(within(t, 10*time.Second), messaging.Route{Key: "shard"}, message(t, i)))
	}
	seen := make(chan string, 2*n)
	failed := map[string]bool{}
	handler := messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		if string(d.Body) == "20" && !failed[d.ID] {
			failed[d.ID] = true
			return errors.New("once")
		}
		seen <- string(d.Body)
		return nil
	})
	got := 0
	current, err := conns[1].Consume(queue, handler)
	require.NoError(t, err)
	for i := 0; got < n; i++ {
		for range 20 { // ten hand-overs, while messages flow
			require.Equal(t, fmt.Sprint(got), next(t, seen))
			got++
		}
		successor, err := conns[i%2].Consume(queue, handler)
		require.NoError(t, err)
		require.NoError(t, current.Drain(within(t, 10*time.Second)))
		current = successor
	}
}

// Replicas share the shards, also those that start later; no key's order breaks
// when a shard changes hands.
func TestShardsSpreadOverReplicas(t *testing.T) {
	t.Parallel()
	const shards, keys, each, alone = 12, 30, 40, 5
	b := messagingtest.Broker(t)
	topology := messaging.Sharded(messaging.Exchange{Name: "events"}, shards, messaging.Queue{Type: messaging.Quorum})
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), topology))
	var mu sync.Mutex
	seen := map[string][]string{}
	total := 0
	shared := map[int]int{} // what a replica handled of that which was published when there were three
	start := func(replica int) messaging.Group {
		group, err := b.Connect(t, b.Config()).ConsumeAll(topology.Queues, messaging.JSON(func(_ context.Context, d *messaging.Delivery, number int) error {
			mu.Lock()
			defer mu.Unlock()
			if n := len(seen[d.Key]); n == 0 || seen[d.Key][n-1] != string(d.Body) { // a copy is no disorder
				seen[d.Key] = append(seen[d.Key], string(d.Body))
			}
			total++
			if number >= alone {
				shared[replica]++
			}
			return nil
		}), messaging.Tenure(200*time.Millisecond))
		require.NoError(t, err)
		return group
	}
	ready := func(g messaging.Group) {
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
			err := g.Ready()
			return err == nil, fmt.Sprint(err)
		})
	}
	ready(start(0))
	p := publisher(t, b.Connect(t, b.Config()))
	for n := range each {
		if n == alone {
			ready(start(1))
			ready(start(2))
		}
		for k := range keys {
			m := message(t, n)
			require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Exchange: "events", Key: fmt.Sprint("key", k)}, m))
		}
	}
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		return total >= keys*each, fmt.Sprint(total)
	})
	mu.Lock()
	defer mu.Unlock()
	for k := range keys {
		var want []string
		for n := range each {
			want = append(want, fmt.Sprint(n))
		}
		require.Equal(t, want, seen[fmt.Sprint("key", k)])
	}
	for replica := range 3 {
		require.GreaterOrEqual(t, 10*shared[replica], keys*(each-alone), "replica %d has less than a tenth: %v", replica, shared)
	}
	t.Logf("shares of the replicas: %v", shared)
}

func TestListenGetsEveryMessage(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	require.NoError(t, raw(t, b).ExchangeDeclare("news", "fanout", true, false, false, false, nil))
	type listener struct{ subscribed, heard chan string }
	var listeners []listener
	queue := messaging.Queue{Type: messaging.Classic, Exclusive: true, MaxLength: 10}
	for range 2 {
		l := listener{make(chan string, 10), make(chan string, 10)}
		listeners = append(listeners, l)
		_, err := b.Connect(t, b.Config()).Listen(queue, []messaging.Binding{{Source: "news"}},
			messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				l.heard <- string(d.Body)
				return nil
			}), messaging.OnSubscribe(func() { l.subscribed <- "" }))
		require.NoError(t, err)
	}
	say := func(what string) {
		p := publisher(t, b.Connect(t, b.Config()))
		require.NoError(t, p.Publish(within(t, 10*time.Second), messaging.Route{Exchange: "news"}, message(t, what)))
		for _, l := range listeners {
			require.Equal(t, `"`+what+`"`, next(t, l.heard))
		}
	}
	for _, l := range listeners {
		next(t, l.subscribed)
	}
	say("one")
	b.CloseAllConnections(t)
	for _, l := range listeners {
		next(t, l.subscribed)
	}
	say("two")
}
