package messaging_test

import (
	"context"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestStream(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	_, err := raw(t, b).QueueDeclare("log", true, false, false, false, amqp.Table{"x-queue-type": "stream"})
	require.NoError(t, err)
	conn := b.Connect(t, b.Config())
	p := conn.Publisher()
	log := messaging.Queue{Name: "log", Type: messaging.Stream}
	for i := range 100 {
		require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "log"}, message(t, i)))
	}

	read := func(t *testing.T, from messaging.Offset, n int) []int64 {
		t.Helper()
		var offsets []int64
		for d, err := range conn.Stream(log, from, messaging.Credit(10)).All(within(t, 20*time.Second)) {
			require.NoError(t, err)
			offsets = append(offsets, d.Offset)
			if len(offsets) == n {
				break
			}
		}
		return offsets
	}
	t.Run("from the first", func(t *testing.T) {
		offsets := read(t, messaging.FirstOffset(), 100)
		require.EqualValues(t, 0, offsets[0])
		require.EqualValues(t, 99, offsets[99])
	})
	t.Run("from an offset", func(t *testing.T) {
		require.EqualValues(t, 42, read(t, messaging.OffsetAt(42), 1)[0])
	})
	t.Run("since a time", func(t *testing.T) {
		require.EqualValues(t, 0, read(t, messaging.OffsetSince(time.Now().Add(-time.Hour)), 1)[0])
	})
	t.Run("resumes behind the last message after a lost connection", func(t *testing.T) {
		var next int64
		for d, err := range conn.Stream(log, messaging.FirstOffset(), messaging.Credit(10)).All(within(t, 30*time.Second)) {
			require.NoError(t, err)
			require.Equal(t, next, d.Offset)
			if next++; next == 100 {
				break
			}
			if next == 50 {
				b.CloseAllConnections(t)
			}
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		for _, err := range conn.Stream(log, messaging.NextOffset()).All(ctx) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}
