package messaging_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestSharded(t *testing.T) {
	t.Parallel()
	like := messaging.Queue{
		Type: messaging.Quorum, Overflow: messaging.RejectPublish,
		DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters"},
	}
	got := messaging.Sharded(messaging.Exchange{Name: "payments", Alternate: "unrouted"}, 2, like)
	shard := func(name string) messaging.Queue {
		q := like
		q.Name, q.SingleActiveConsumer = name, true
		q.DeadLetter = &messaging.DeadLetter{Exchange: "dead.letters", Key: name}
		return q
	}
	require.Equal(t, messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "payments", Kind: messaging.ModulusHash, Alternate: "unrouted"}},
		Queues:    []messaging.Queue{shard("payments.0"), shard("payments.1")},
		Bindings:  []messaging.Binding{{Source: "payments", Destination: "payments.0"}, {Source: "payments", Destination: "payments.1"}},
	}, got)
	require.Empty(t, like.DeadLetter.Key, "the template is left alone")
}

func TestConsumeAllStartsAllOrNone(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	shards := messaging.Sharded(messaging.Exchange{Name: "events"}, 3, messaging.Queue{Type: messaging.Quorum})
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), shards))
	conn := b.Connect(t, b.Config())
	nothing := messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil })
	bad := append(shards.Queues[:2:2], messaging.Queue{Name: "audit", Type: messaging.Stream})
	_, err := conn.ConsumeAll(bad, nothing)
	require.ErrorContains(t, err, "use Stream")

	group, err := conn.ConsumeAll(shards.Queues, nothing)
	require.NoError(t, err)
	consumers := func(want int) {
		t.Helper()
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			for _, q := range shards.Queues {
				state, err := conn.QueueState(within(t, 10*time.Second), q.Name)
				require.NoError(t, err)
				if state.Consumers != want {
					return false, fmt.Sprintf("%s has %d consumers, waiting for %d", q.Name, state.Consumers, want)
				}
			}
			return true, ""
		})
	}
	consumers(1)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { return group.Ready() == nil, "not ready" })
	require.NoError(t, group.Stop(within(t, 20*time.Second)))
	consumers(0) // also none of the two that could have been started before
	for _, consumer := range group {
		next(t, consumer.Done())
	}
	require.NoError(t, conn.Close(within(t, 20*time.Second)))
	_, err = conn.ConsumeAll(shards.Queues, nothing)
	require.ErrorIs(t, err, messaging.ErrClosed)
}
