package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Acknowledgements are sent with "multiple", although other messages are rejected and parked
// and one handler does not return. Each message still gets its own verdict.
func TestMultipleAcknowledgesOnlyHandledMessages(t *testing.T) {
	t.Parallel()
	const messages, slow = 2000, 700
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 20)
	conn := b.Connect(t, b.Config())
	p := publisher(t, conn)
	number := map[string]int{} // by id
	batch := make([]messaging.Message, messages)
	for i := range batch {
		batch[i] = message(t, i)
		number[batch[i].ID] = i
	}
	require.NoError(t, p.PublishBatch(within(t, 30*time.Second), messaging.Route{Key: "jobs"}, batch))

	release := make(chan struct{})
	var mu sync.Mutex
	handled := map[int]int{}
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		n := number[d.ID]
		if n == slow {
			<-release
		}
		mu.Lock()
		defer mu.Unlock()
		handled[n]++
		switch {
		case n%7 == 0 && handled[n] < 3:
			return errors.New("fails twice")
		case n%11 == 0:
			return messaging.Permanent(errors.New("never"))
		default:
			return nil
		}
	}), messaging.Concurrency(16), messaging.Prefetch(200))
	require.NoError(t, err)
	settledBut := func(n int) func() (bool, string) {
		return func() (bool, string) {
			left := b.Unsettled(t, "jobs")
			return left == n, fmt.Sprintf("%d are not settled, %d should be", left, n)
		}
	}
	messagingtest.Eventually(t, 30*time.Second, settledBut(1))
	close(release)
	messagingtest.Eventually(t, 30*time.Second, settledBut(0))

	mu.Lock()
	defer mu.Unlock()
	parked := 0
	for n := range messages {
		want := 1
		if n%7 == 0 {
			want = 3
		}
		if n%11 == 0 {
			parked++
		}
		require.Equal(t, want, handled[n], "message %d", n)
	}
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := b.Depth(t, "jobs.dead")
		return n == parked, fmt.Sprintf("%d parked, %d should be", n, parked)
	})
}
