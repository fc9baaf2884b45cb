package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// batches is a handler that notes what it gets.
type batches struct {
	ledger
	handle func(batch []string) error // with the bodies

	mu  sync.Mutex
	all [][]string
}

func newBatches(handle func(batch []string) error) *batches {
	h := &batches{handle: handle}
	h.deliveries, h.verdicts = map[string][]counts{}, map[string][]messaging.Verdict{}
	return h
}

func (h *batches) HandleBatch(_ context.Context, batch []*messaging.Delivery) error {
	var bodies []string
	for _, d := range batch {
		h.delivered(d)
		bodies = append(bodies, string(d.Body))
	}
	h.mu.Lock()
	h.all = append(h.all, bodies)
	h.mu.Unlock()
	if h.handle == nil {
		return nil
	}
	return h.handle(bodies)
}

// got are the batches so far.
func (h *batches) got() [][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// numbers publishes messages with the bodies 1 to n to a queue.
func numbers(t *testing.T, conn *messaging.Conn, queue string, n int) {
	t.Helper()
	var messages []messaging.Message
	for i := range n {
		messages = append(messages, message(t, i+1))
	}
	p := publisher(t, conn)
	require.NoError(t, p.PublishBatch(within(t, 30*time.Second), messaging.Route{Key: queue}, messages))
	require.NoError(t, p.Close(within(t, 5*time.Second)))
}

// allAcked waits until so many messages are done.
func (h *batches) allAcked(t *testing.T, n int) {
	t.Helper()
	messagingtest.Eventually(t, 60*time.Second, func() (bool, string) {
		h.ledger.mu.Lock()
		defer h.ledger.mu.Unlock()
		acked := 0
		for _, verdicts := range h.verdicts {
			for _, v := range verdicts {
				if v == messaging.Acked {
					acked++
				}
			}
		}
		return acked == n, fmt.Sprintf("%d are acknowledged, waiting for %d", acked, n)
	})
}

// observed is a connection that tells the ledger.
func (h *batches) observed(t *testing.T, b *messagingtest.BrokerInfo) *messaging.Conn {
	t.Helper()
	config := b.Config()
	config.Observers = append(config.Observers, &h.ledger)
	return b.Connect(t, config)
}

func TestABatchHasWhatIsThere(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 3)
	first := make(chan struct{}) // holds the first batch until all is delivered
	h := newBatches(func([]string) error { <-first; return nil })
	conn := h.observed(t, b)
	numbers(t, conn, "jobs", 95)
	consumer, err := conn.ConsumeBatch(queue, 10, h, messaging.Prefetch(100))
	require.NoError(t, err)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		state, err := conn.QueueState(within(t, 10*time.Second), "jobs")
		require.NoError(t, err)
		return state.Messages == 0 && len(h.got()) == 1, fmt.Sprintf("%d ready, %d batches", state.Messages, len(h.got()))
	})
	close(first)
	h.allAcked(t, 95)
	require.NoError(t, consumer.Drain(within(t, 10*time.Second)))

	var bodies []string
	full := 0
	for _, batch := range h.got() {
		require.LessOrEqual(t, len(batch), 10)
		if len(batch) == 10 {
			full++
		}
		bodies = append(bodies, batch...)
	}
	require.GreaterOrEqual(t, full, 2, "%v", h.got()) // what the broker sends later makes smaller ones
	require.Len(t, bodies, 95)
	for i, body := range bodies {
		require.Equal(t, fmt.Sprint(i+1), body, "in the order of the queue")
		require.Equal(t, []messaging.Verdict{messaging.Acked}, h.verdicts[body])
	}
}

func TestABatchWaitsForItsLinger(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 3)
	h := newBatches(nil)
	conn := h.observed(t, b)
	_, err := conn.ConsumeBatch(queue, 3, h, messaging.Linger(time.Minute))
	require.NoError(t, err)
	for i := range 3 {
		publishTo(t, conn, "jobs", i+1)
	}
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { // well before the minute, since it is full
		return len(h.got()) == 1, fmt.Sprint(h.got())
	})
	require.Equal(t, [][]string{{"1", "2", "3"}}, h.got())
}

// Each message of a batch gets its own verdict, whatever happens to the batch.
func TestVerdictsOfABatch(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	errBroken := errors.New("broken")
	poison := func(batch []string) bool { return slices.Contains(batch, "4") }
	acked, parked := []messaging.Verdict{messaging.Acked}, []messaging.Verdict{messaging.Parked}
	tried := []messaging.Verdict{messaging.Rejected, messaging.Rejected, messaging.Parked}

	cases := map[string]struct {
		handle func(batch []string) error
		want   []messaging.Verdict // of the poison
		reason string
	}{
		"an error for one of them": {func(batch []string) error {
			errs := make(messaging.BatchErrors, len(batch))
			if i := slices.Index(batch, "4"); i >= 0 {
				errs[i] = errBroken
			}
			return errs
		}, tried, "broken"},
		"a permanent error for one of them": {func(batch []string) error {
			errs := make(messaging.BatchErrors, len(batch))
			if i := slices.Index(batch, "4"); i >= 0 {
				errs[i] = messaging.Permanent(errBroken)
			}
			return errs
		}, parked, "broken"},
		"an error for all": {func(batch []string) error {
			if poison(batch) {
				return errBroken
			}
			return nil
		}, tried, "broken"},
		"a permanent error for all": {func(batch []string) error {
			if poison(batch) {
				return messaging.Permanent(errBroken)
			}
			return nil
		}, parked, "broken"},
		"errors of another length": {func(batch []string) error {
			if poison(batch) {
				return make(messaging.BatchErrors, 17)
			}
			return nil
		}, tried, "none of 17 failed"},
		"a panic": {func(batch []string) error {
			if poison(batch) {
				panic("oops")
			}
			return nil
		}, tried, "handler panicked: oops"},
		"the end of the goroutine": {func(batch []string) error {
			if poison(batch) {
				runtime.Goexit()
			}
			return nil
		}, tried, "handler ended its goroutine (runtime.Goexit)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := declare(t, raw(t, b), "batch "+name, 2)
			h := newBatches(c.handle)
			conn := h.observed(t, b)
			numbers(t, conn, queue.Name, 8)
			consumer, err := conn.ConsumeBatch(queue, 8, h, messaging.Linger(time.Second))
			require.NoError(t, err)
			dead := get(t, ch, queue.Name+".dead")
			require.Equal(t, "4", string(dead.Body))
			require.Equal(t, c.reason, dead.Headers[messaging.HeaderDeadReason])
			empty(t, b, queue.Name)
			require.NoError(t, consumer.Drain(within(t, 10*time.Second)))
			for i := range 8 {
				body, want := fmt.Sprint(i+1), acked
				if body == "4" {
					want = c.want
				}
				require.Equal(t, want, h.verdicts[body], "message %s; batches %v", body, h.got())
			}
			require.Empty(t, h.wrong)
		})
	}
}

// A batch whose handler needs what is away goes back as a whole, and no attempt is counted.
func TestAnOutageOfABatch(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 3)
	var mu sync.Mutex
	calls := 0
	h := newBatches(func([]string) error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls <= 3 {
			return messaging.Unavailable(errNoDatabase)
		}
		return nil
	})
	conn := h.observed(t, b)
	numbers(t, conn, "jobs", 20)
	consumer, err := conn.ConsumeBatch(queue, 5, h, messaging.Prefetch(20), messaging.Concurrency(2))
	require.NoError(t, err)
	h.allAcked(t, 20)
	require.NoError(t, consumer.Drain(within(t, 10*time.Second)))
	require.Empty(t, h.wrong)
	for body, deliveries := range h.deliveries {
		for _, d := range deliveries {
			require.Contains(t, []any{nil, int64(0)}, d.delivery, "message %s has counted an attempt", body)
		}
		require.Equal(t, messaging.Acked, h.verdicts[body][len(h.verdicts[body])-1])
	}
	require.Len(t, h.verdicts, 20)
	require.Empty(t, b.Depth(t, "jobs.dead"))
}

// Batches keep the order of a queue with a single active consumer: when one of them fails,
// when the tenure ends, and when a consumer stops.
func TestBatchesKeepOrder(t *testing.T) {
	t.Parallel()
	const messages = 1000
	b := messagingtest.Broker(t)
	queue := messaging.Queue{Name: "shard", Type: messaging.Quorum, SingleActiveConsumer: true, Retry: messaging.Retry{Limit: messaging.Unlimited}}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
	var mu sync.Mutex
	var effects []string // in the order in which they happened, once each
	failures := 0
	h := newBatches(func(batch []string) error {
		mu.Lock()
		defer mu.Unlock()
		if failures++; failures%7 == 0 {
			return errors.New("every seventh fails")
		}
		for _, body := range batch {
			if !slices.Contains(effects, body) {
				effects = append(effects, body)
			}
		}
		return nil
	})
	conn := h.observed(t, b)
	options := []messaging.BatchOption{messaging.Tenure(200 * time.Millisecond), messaging.Prefetch(32)}
	var group messaging.Group
	for range 2 {
		consumer, err := conn.ConsumeBatch(queue, 16, h, options...)
		require.NoError(t, err)
		group = append(group, consumer)
	}
	numbers(t, conn, "shard", messages/2)
	third, err := conn.ConsumeBatch(queue, 16, h, options...)
	require.NoError(t, err)
	numbers(t, conn, "shard", messages/2) // the same bodies again: they have their effect already
	require.NoError(t, group[0].Drain(within(t, 20*time.Second)))
	h.allAcked(t, messages)
	require.NoError(t, group[1].Drain(within(t, 20*time.Second)))
	require.NoError(t, third.Drain(within(t, 20*time.Second)))

	var want []string
	for i := range messages / 2 {
		want = append(want, fmt.Sprint(i+1))
	}
	require.Equal(t, want, effects)
}

// A consumer that stops while a batch is handled alone gives back what it has not begun.
func TestABatchGivesBackWhatIsNotBegun(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 3)
	alone, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h := newBatches(func(batch []string) error {
		if len(batch) > 1 {
			return errors.New("not all of them")
		}
		once.Do(func() { close(alone) })
		<-release
		return nil
	})
	conn := h.observed(t, b)
	numbers(t, conn, "jobs", 6)
	consumer, err := conn.ConsumeBatch(queue, 6, h, messaging.Linger(2*time.Second))
	require.NoError(t, err)
	next(t, alone)
	drained := make(chan error, 1)
	go func() { drained <- consumer.Drain(within(t, 20*time.Second)) }()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return consumer.Ready() != nil && strings.Contains(consumer.Ready().Error(), "draining"), "it does not drain"
	})
	close(release)
	require.NoError(t, next(t, drained))
	require.Equal(t, []messaging.Verdict{messaging.Acked}, h.verdicts["1"])
	require.Equal(t, 5, b.Depth(t, "jobs"))
	for i := range 5 {
		require.Equal(t, []messaging.Verdict{messaging.GivenBack}, h.verdicts[fmt.Sprint(i+2)])
		d := get(t, raw(t, b), "jobs")
		require.Contains(t, []any{nil, int64(0)}, d.Headers["x-delivery-count"])
	}
}

func TestBatchOptions(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	nothing := messaging.BatchHandlerFunc(func(context.Context, []*messaging.Delivery) error { return nil })
	jobs := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	shard := messaging.Queue{Name: "shard", Type: messaging.Quorum, SingleActiveConsumer: true}
	short := messaging.Queue{Name: "short", Type: messaging.Quorum, ConsumerTimeout: time.Minute}
	for name, c := range map[string]struct {
		queue   messaging.Queue
		size    int
		handler messaging.BatchHandler
		options []messaging.BatchOption
		want    string
	}{
		"no handler":       {jobs, 5, nil, nil, "the handler is nil"},
		"a nil function":   {jobs, 5, messaging.BatchHandlerFunc(nil), nil, "the handler is nil"},
		"no size":          {jobs, 0, nothing, nil, "the size must be from 1"},
		"a large size":     {jobs, 70_000, nothing, nil, "the size must be from 1"},
		"a small prefetch": {jobs, 5, nothing, []messaging.BatchOption{messaging.Prefetch(4)}, "Prefetch: must not be below"},
		"too much at once": {jobs, 5_000, nothing, []messaging.BatchOption{messaging.Concurrency(20)}, "Concurrency: must"},
		"a linger":         {jobs, 5, nothing, []messaging.BatchOption{messaging.Linger(-1)}, "Linger: must not be negative"},
		"no confirmation":  {jobs, 5, nothing, []messaging.BatchOption{messaging.AutoAck()}, "AutoAck: not for batches"},
		"no order":         {shard, 5, nothing, []messaging.BatchOption{messaging.Concurrency(2)}, "keeps order with 1 only"},
		"no time":          {short, 5, nothing, nil, "of a batch, must twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := conn.ConsumeBatch(c.queue, c.size, c.handler, c.options...)
			require.ErrorContains(t, err, c.want)
		})
	}
}
