package messaging_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// sequences are numbered events by key, in the order in which handlers began with
// each for the first time.
type sequences struct {
	window chan struct{} // room for what is published and not begun with
	mu     sync.Mutex
	events map[string][]int // by key
	by     map[string]int   // handlings by replica
	copies int
}

func newSequences() *sequences {
	return &sequences{window: make(chan struct{}, 200), events: map[string][]int{}, by: map[string]int{}}
}

// handler is the handler of a replica and takes a few milliseconds. If the test waits at inHand
// it does not end before its context.
func (s *sequences) handler(replica string, inHand chan<- struct{}) messaging.Handler {
	return messaging.JSON(func(ctx context.Context, d *messaging.Delivery, number int) error {
		s.note(replica, d.Key, number)
		select {
		case <-time.After(3 * time.Millisecond):
			return nil
		case inHand <- struct{}{}:
			<-ctx.Done()
			return context.Cause(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

func (s *sequences) note(replica, key string, number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[replica]++
	if slices.Contains(s.events[key], number) {
		s.copies++
		return
	}
	s.events[key] = append(s.events[key], number)
	<-s.window
}

// publish publishes the events of the keys, round after round, until ctx is done,
// and gives the number of rounds. A message with an unknown outcome is published again.
func (s *sequences) publish(ctx context.Context, t *testing.T, p *messaging.Publisher, exchange string, keys ...string) (rounds int) {
	t.Helper()
	for ; ctx.Err() == nil; rounds++ {
		for _, key := range keys {
			s.window <- struct{}{}
			m, err := messaging.NewMessage(work, rounds)
			if err != nil {
				t.Error(err)
				return rounds
			}
			for p.Publish(t.Context(), messaging.Route{Exchange: exchange, Key: key}, m) != nil {
				if t.Context().Err() != nil {
					return rounds
				}
			}
		}
	}
	return rounds
}

// more waits until a replica, or with "" any, has handled n more.
func (s *sequences) more(t *testing.T, replica string, n int) {
	t.Helper()
	handled := func() (all int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for name, n := range s.by {
			if replica == "" || name == replica {
				all += n
			}
		}
		return all
	}
	want := handled() + n
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		n := handled()
		return n >= want, fmt.Sprintf("replica %q has handled %d, waiting for %d", replica, n, want)
	})
}

// inOrder waits until the events 0 to n-1 of each key have come, and fails when one
// has overtaken another.
func (s *sequences) inOrder(t *testing.T, n int, keys ...string) {
	t.Helper()
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range keys {
			if len(s.events[key]) < n {
				return false, fmt.Sprintf("%d of %d events of %s", len(s.events[key]), n, key)
			}
		}
		return true, ""
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		require.Len(t, s.events[key], n, key)
		for i, number := range s.events[key] {
			require.Equal(t, i, number, "%s: %v", key, s.events[key])
		}
	}
	t.Logf("%d events each of %d keys in order, by %v, %d of them copies", n, len(keys), s.by, s.copies)
}

// Two replicas share the shards, and the network of one is cut three times under
// load, each time while it handles a message. The other one takes over.
func TestOrderAcrossFailOver(t *testing.T) {
	t.Parallel()
	const cuts = 3
	b := messagingtest.Broker(t)
	topology := messaging.Sharded(messaging.Exchange{Name: "events"}, 4, messaging.Queue{Type: messaging.Quorum})
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), topology))
	ready := func(g messaging.Group, want bool) {
		t.Helper()
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			err := g.Ready()
			return (err == nil) == want, fmt.Sprint(err)
		})
	}
	events := newSequences()
	tenure := messaging.Tenure(300 * time.Millisecond) // so that each soon has some of the shards again
	proxy := messagingtest.NewProxy(t, b)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	inHand := make(chan struct{})
	fragile, err := b.Connect(t, config).ConsumeAll(topology.Queues, events.handler("fragile", inHand), tenure)
	require.NoError(t, err)
	ready(fragile, true)
	steady, err := b.Connect(t, b.Config()).ConsumeAll(topology.Queues, events.handler("steady", nil), tenure)
	require.NoError(t, err)
	ready(steady, true)

	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprint("key-", i))
	}
	ctx, stop := context.WithCancel(t.Context())
	rounds := make(chan int, 1)
	publisher := publisher(t, b.Connect(t, b.Config()))
	go func() { rounds <- events.publish(ctx, t, publisher, "events", keys...) }()
	for range cuts {
		events.more(t, "fragile", 100)
		events.more(t, "steady", 100)
		next(t, inHand)
		proxy.Cut()
		ready(fragile, false)
		events.more(t, "steady", 100)
		proxy.Restore()
		ready(fragile, true)
	}
	stop()
	events.inOrder(t, next(t, rounds), keys...)
	require.GreaterOrEqual(t, events.copies, cuts, "what was in hand came again")
	for _, q := range topology.Queues {
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
			left := b.Unsettled(t, q.Name)
			return left == 0, fmt.Sprintf("%d are left in %s", left, q.Name)
		})
	}
}
