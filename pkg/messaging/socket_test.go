package messaging_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The network accepts no more data although the broker does not block the connection: messages
// fill the write buffer until there is no room.
func TestPublishingIntoAFullSocket(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	proxy := messagingtest.NewProxy(t, b)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	config.Heartbeat, config.WriteTimeout = time.Minute, time.Minute // the connection stays
	conn := b.Connect(t, config)
	p := publisher(t, conn)
	route := messaging.Route{Key: "jobs"}
	require.NoError(t, p.Publish(within(t, 10*time.Second), route, message(t, "x")))

	proxy.Stall()
	body := string(make([]byte, 300<<10)) // each alone is more than the backlog may be
	for full := false; !full; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c := p.PublishAsync(ctx, route, message(t, body))
		full = ctx.Err() != nil
		if full {
			require.ErrorContains(t, c.Err(), "not sent")
		}
		cancel()
	}
	require.NoError(t, conn.Ready(), "no alarm, no lost connection")

	publishesGiveUpInTime(t, p)
	require.NoError(t, conn.Ready())

	closing, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, conn.Close(closing), context.DeadlineExceeded, "confirms are outstanding")
	deadline, _ := closing.Deadline()
	require.Less(t, time.Since(deadline), time.Second)
}

// publishesGiveUpInTime sees that a publish that cannot be sent returns within 100 ms
// of the end of its context. A busy machine may be late with a few, and by less than
// a second; never with most of them.
func publishesGiveUpInTime(t *testing.T, p *messaging.Publisher) {
	t.Helper()
	var late []time.Duration
	for range 9 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := p.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x"))
		deadline, _ := ctx.Deadline()
		late = append(late, time.Since(deadline))
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "not sent")
	}
	slices.Sort(late)
	require.Less(t, late[len(late)/2], 100*time.Millisecond, "the median of %v", late)
	require.Less(t, late[len(late)-1], time.Second, "the worst of %v", late)
}
