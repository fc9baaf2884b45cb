package messaging_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestWhatIsMadeFromAClosedConnIsClosed(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	ctx := within(t, 20*time.Second)
	require.NoError(t, conn.Close(ctx))

	p := publisher(t, conn)
	require.ErrorIs(t, p.Publish(ctx, messaging.Route{Key: "jobs"}, message(t, "x")), messaging.ErrClosed)
	require.NoError(t, p.Close(ctx))
	caller := conn.Caller()
	_, err := messaging.Call(ctx, caller, messaging.Procedure[string, string]{Request: work, Reply: work}, "x")
	require.ErrorIs(t, err, messaging.ErrClosed)
	require.NoError(t, caller.Close(ctx))
	_, err = conn.Consume(messaging.Queue{Name: "jobs", Type: messaging.Quorum}, messaging.HandlerFunc(
		func(context.Context, *messaging.Delivery) error { return nil }))
	require.ErrorIs(t, err, messaging.ErrClosed)
}

// The last handlers of a Conn that closes may still publish, and their messages be
// parked, which takes a publisher that is made only then. None is left behind.
func TestHandlersPublishAndParkWhileTheConnCloses(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	queue := declare(t, ch, "jobs", 20)
	declare(t, ch, "results", 20)
	idle := declare(t, ch, "idle", 20)
	publishTo(t, b.Connect(t, b.Config()), "jobs", "x")

	conn, err := messaging.Connect(within(t, 20*time.Second), b.Config()) // is closed once
	require.NoError(t, err)
	started, proceed, published := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	_, err = conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
		close(started)
		<-proceed
		result, err := messaging.NewMessage(work, "x")
		if err == nil {
			err = publisher(t, conn).Publish(ctx, messaging.Route{Key: "results"}, result)
		}
		published <- err
		return messaging.Permanent(errors.New("to be parked"))
	}))
	require.NoError(t, err)
	next(t, started)
	closed := make(chan error, 1)
	go func() { closed <- conn.Close(within(t, 20*time.Second)) }()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		_, err := conn.Consume(idle, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }))
		return errors.Is(err, messaging.ErrClosed), "not closing yet"
	})
	close(proceed)
	require.NoError(t, next(t, published))
	require.NoError(t, next(t, closed))
	get(t, ch, "results")
	require.Equal(t, "to be parked", get(t, ch, "jobs.dead").Headers["dead-reason"])
}
