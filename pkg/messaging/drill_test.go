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

// The drill that loses messages with a recovery that reuses channels: handlers
// outlive the connection that brought their message, and acknowledge afterwards.
func TestStaleAcknowledgements(t *testing.T) {
	t.Parallel()
	const messages, cuts = 150, 4
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 20)
	config := b.Config()
	var stale atomic.Int32
	config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) {
		if e.Verdict == messaging.Stale {
			stale.Add(1)
		}
	})}
	conn := b.Connect(t, config)
	sent := map[string]int{} // by id: its number
	p := publisher(t, conn)
	for i := range messages {
		m := message(t, i)
		sent[m.ID] = i
		require.NoError(t, p.Publish(within(t, time.Minute), messaging.Route{Key: "jobs"}, m))
	}
	var mu sync.Mutex
	failures := map[string]int{}
	done := map[string]int{} // effects by message id
	duplicates, strangers := 0, 0
	finished := func() int { mu.Lock(); defer mu.Unlock(); return len(done) }
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		number, known := sent[d.ID]
		work := time.NewTimer(time.Duration(200+number*700/messages) * time.Millisecond)
		defer work.Stop()
		<-work.C // whatever happens to the connection: this handler ignores its context
		mu.Lock()
		defer mu.Unlock()
		if !known {
			strangers++
			return nil
		}
		if number%3 == 0 && failures[d.ID] < 2 {
			failures[d.ID]++
			return errors.New("fails twice")
		}
		if done[d.ID] > 0 {
			duplicates++ // recognised by its id
		}
		done[d.ID]++
		return nil
	}), messaging.Concurrency(5), messaging.Prefetch(10)) // so five wait in the client at each cut
	require.NoError(t, err)
	for n := range cuts {
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			return finished() >= (n+1)*messages/(cuts+2), fmt.Sprint(finished())
		})
		b.CloseAllConnections(t)
	}
	messagingtest.Eventually(t, 2*time.Minute, func() (bool, string) { return finished() == messages, fmt.Sprint(finished()) })
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		n := b.Depth(t, "jobs")
		return n == 0, fmt.Sprint(n)
	})
	require.Zero(t, b.Depth(t, "jobs.dead"))
	mu.Lock()
	defer mu.Unlock()
	require.Zero(t, strangers)
	require.Positive(t, stale.Load(), "handlers that have outlived their channel")
	t.Logf("%d messages, 0 lost, %d verdicts too late, %d duplicates recognised", messages, stale.Load(), duplicates)
}

// Publishing while the connection comes back over a slow network. A recovery that
// publishes before confirms are selected takes each confirm for an earlier message's,
// so every other message here goes to a queue that is full: it must never be confirmed.
func TestNoFalseConfirms(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "jobs", 20)
	_, err := ch.QueueDeclare("full", true, false, false, false, amqp.Table{
		"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish",
	})
	require.NoError(t, err)
	publishTo(t, b.Connect(t, b.Config()), "full", "the only one")
	proxy := messagingtest.NewProxy(t, b)
	proxy.Latency(40 * time.Millisecond)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	conn := b.Connect(t, config)
	p := publisher(t, conn)
	ctx := within(t, 3*time.Minute)

	const rounds = 20
	var cut atomic.Int32
	for round := range rounds {
		running, stop := context.WithCancel(ctx)
		confirmed := make(chan string, 10_000)
		var refused atomic.Int32
		var publishers sync.WaitGroup
		for range 4 {
			publishers.Go(func() {
				for running.Err() == nil {
					stored, err := messaging.NewMessage(work, round)
					unstored, err2 := messaging.NewMessage(work, round)
					if err != nil || err2 != nil {
						t.Error(err, err2)
						return
					}
					// Both are on their way before either outcome is looked at.
					first := p.PublishAsync(ctx, messaging.Route{Key: "jobs"}, stored)
					second := p.PublishAsync(ctx, messaging.Route{Key: "full"}, unstored)
					if first.Wait(ctx) == nil {
						confirmed <- stored.ID
					}
					switch err := second.Wait(ctx); {
					case err == nil:
						t.Errorf("round %d: a message for a full queue was confirmed", round)
					case errors.Is(err, messaging.ErrNacked):
						refused.Add(1)
					case errors.Is(err, messaging.ErrConnectionLost):
						cut.Add(1)
					}
				}
			})
		}
		more := func() {
			t.Helper()
			wantConfirmed, wantRefused := len(confirmed)+10, refused.Load()+10
			messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
				return len(confirmed) >= wantConfirmed && refused.Load() >= wantRefused, fmt.Sprint(len(confirmed), refused.Load())
			})
		}
		more() // all are publishing
		proxy.Cut()
		proxy.Restore()
		more() // and again
		stop()
		publishers.Wait()
		close(confirmed)

		stored := map[string]bool{}
		look := raw(t, b)
		for {
			d, ok, err := look.Get("jobs", true)
			require.NoError(t, err)
			if !ok {
				break
			}
			stored[d.MessageId] = true
		}
		for id := range confirmed {
			require.True(t, stored[id], "round %d: confirmed and not stored", round)
		}
	}
	require.Equal(t, 1, b.Depth(t, "full"))
	require.GreaterOrEqual(t, cut.Load(), int32(rounds), "too few were on their way when the connection was cut")
}

// Not parallel: the alarm blocks the publishers of every test.
func TestPublishingUnderAMemoryAlarm(t *testing.T) {
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	config := b.Config()
	told := make(chan messaging.BlockEvent, 100)
	config.Observers = []messaging.Observer{onBlock(func(e messaging.BlockEvent) { told <- e })}
	conn := b.Connect(t, config)
	p := publisher(t, conn)
	large := message(t, string(make([]byte, 256<<10)))
	require.NoError(t, p.Publish(within(t, 10*time.Second), messaging.Route{Key: "jobs"}, large))

	b.Exec(t, "rabbitmqctl", "set_vm_memory_high_watermark", "0.0000001")
	calm := func() { b.Exec(t, "rabbitmqctl", "set_vm_memory_high_watermark", "0.6") }
	defer calm()
	// Fill the socket: nobody reads from it any more.
	flood, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for flood.Err() == nil {
		m := large
		m.ID = message(t, "").ID
		p.PublishAsync(flood, messaging.Route{Key: "jobs"}, m)
	}
	require.ErrorContains(t, conn.Ready(), "blocked")
	blocked := next(t, told)
	require.True(t, blocked.Blocked)
	require.NotEmpty(t, blocked.Reason)
	requireEnded(t, p.Publish(soon(t), messaging.Route{Key: "jobs"}, message(t, "x")), "is blocked by the broker: "+blocked.Reason)
	publishesGiveUpInTime(t, p)
	// Closing takes at most its deadline, and a little.
	other := b.Connect(t, b.Config())
	stuck := publisher(t, other)
	ctx, cancel2 := context.WithTimeout(t.Context(), time.Second)
	defer cancel2()
	stuck.PublishAsync(ctx, messaging.Route{Key: "jobs"}, message(t, "x"))
	started := time.Now()
	closing, cancel3 := context.WithTimeout(t.Context(), time.Second)
	defer cancel3()
	_ = other.Close(closing) // an error or not: in time is what matters
	require.Less(t, time.Since(started), 3*time.Second)

	calm()
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		err := conn.Ready()
		return err == nil, fmt.Sprint(err)
	})
	require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "jobs"}, message(t, "x")))
	for e := next(t, told); e.Blocked || e.Connection != blocked.Connection; e = next(t, told) {
	}
}

// onBlock is an observer of connections that the broker blocks.
type onBlock func(e messaging.BlockEvent)

func (f onBlock) OnBlock(e messaging.BlockEvent) { f(e) }
