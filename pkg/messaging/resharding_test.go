package messaging_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// sharded is a topology of n shards.
func sharded(n int) messaging.Topology {
	return messaging.Sharded(messaging.Exchange{Name: "payments"}, n, messaging.Queue{Type: messaging.Quorum})
}

// The steps of docs/runbooks/resharding.md: stop the producers, wait until the shards are
// empty, stop their consumers, change the topology, start all again. The events of each key
// stay in order, and none is lost, from 4 shards to 6 to 3.
func TestReshardingKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	const keys, rounds = 40, 25
	b := messagingtest.Broker(t)
	ctx := within(t, 2*time.Minute)

	var mu sync.Mutex
	handled := map[string][]int{} // by key: the numbers of its events
	used := map[string]bool{}     // queues that got something
	handler := messaging.JSON(func(_ context.Context, d *messaging.Delivery, n int) error {
		mu.Lock()
		defer mu.Unlock()
		handled[d.Key] = append(handled[d.Key], n)
		used[d.Queue] = true
		return nil
	})
	// Two replicas, each on all shards.
	start := func(topology messaging.Topology) (stop func()) {
		var both messaging.Group
		for range 2 {
			replica, err := b.Connect(t, b.Config()).ConsumeAll(topology.Queues, handler)
			require.NoError(t, err)
			both = append(both, replica...)
		}
		return func() { require.NoError(t, both.Drain(ctx)) }
	}
	empty := func(topology messaging.Topology) {
		for _, shard := range topology.Queues {
			messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
				left := b.Unsettled(t, shard.Name)
				return left == 0, fmt.Sprintf("%d are left in %s", left, shard.Name)
			})
		}
	}

	// The producer stops between two messages while somebody else has the hold.
	var hold sync.Mutex
	produced := make(chan struct{})
	publisher := publisher(t, b.Connect(t, b.Config()))
	topology := sharded(4)
	require.NoError(t, messaging.Apply(ctx, b.Admin(), topology))
	go func() {
		defer close(produced)
		for n := range rounds * 3 {
			for key := range keys {
				hold.Lock()
				m, err := messaging.NewMessage(work, n)
				if err == nil {
					err = publisher.Publish(ctx, messaging.Route{Exchange: "payments", Key: fmt.Sprint("order-", key)}, m)
				}
				hold.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	events := func() int {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, of := range handled {
			n += len(of)
		}
		return n
	}
	stop := start(topology)
	for i, shards := range []int{6, 3} {
		messagingtest.Eventually(t, time.Minute, func() (bool, string) {
			return events() >= (i+1)*rounds*keys, fmt.Sprintf("%d events", events())
		})
		hold.Lock()
		empty(topology)
		stop()
		topology = sharded(shards)
		reshard(ctx, t, b, topology)
		mu.Lock()
		clear(used)
		mu.Unlock()
		stop = start(topology)
		hold.Unlock()
	}
	<-produced
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		return events() == rounds*3*keys, fmt.Sprintf("%d events", events())
	})
	for key, of := range handled {
		for i, n := range of {
			require.Equal(t, i, n, "%s: %v", key, of)
		}
	}
	require.Len(t, used, 3, "all shards work")
}

// reshard applies a topology with another number of shards, and deletes the shards that
// are too many.
func reshard(ctx context.Context, t *testing.T, b *messagingtest.BrokerInfo, topology messaging.Topology) {
	t.Helper()
	require.NoError(t, messaging.Apply(ctx, b.Admin(), topology))
	differences, err := messaging.Verify(ctx, b.Admin(), topology)
	require.NoError(t, err)
	for _, d := range differences {
		if d.Entity == "queue" {
			b.DeleteQueue(t, d.Name)
		}
	}
	differences, err = messaging.Verify(ctx, b.Admin(), topology)
	require.NoError(t, err)
	require.Empty(t, differences)
}
