package messaging_test

import (
	"cmp"
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
	p := publisher(t, conn)
	log := messaging.Queue{Name: "log", Type: messaging.Stream}
	var half time.Time   // the beginning of a second: AMQP's times have no fractions
	for i := range 100 { // each is confirmed before the next, and so in a chunk of its own
		if i == 50 {
			half = time.Now().Truncate(time.Second).Add(time.Second)
			messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { return time.Now().After(half), "the second is not over" })
		}
		require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "log"}, message(t, i)))
	}

	read := func(t *testing.T, from messaging.Offset, n int) []int64 {
		t.Helper()
		var offsets []int64
		for d, err := range conn.Stream(within(t, 20*time.Second), log, from, messaging.Credit(10)) {
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
	t.Run("from the last chunk", func(t *testing.T) {
		require.EqualValues(t, 99, read(t, messaging.LastOffset(), 1)[0])
	})
	t.Run("since a time", func(t *testing.T) {
		require.EqualValues(t, 50, read(t, messaging.OffsetSince(half), 1)[0])
		require.EqualValues(t, 0, read(t, messaging.OffsetSince(half.Add(-time.Hour)), 1)[0])
	})
	t.Run("resumes behind the last message after a lost connection", func(t *testing.T) {
		var next int64
		for d, err := range conn.Stream(within(t, 30*time.Second), log, messaging.FirstOffset(), messaging.Credit(10)) {
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
		for _, err := range conn.Stream(ctx, log, messaging.NextOffset()) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
	t.Run("ends with its connection", func(t *testing.T) {
		conn := b.Connect(t, b.Config())
		closed := make(chan error, 1)
		var last error
		for _, err := range conn.Stream(within(t, time.Minute), log, messaging.LastOffset()) {
			if last = err; err == nil {
				go func() { closed <- conn.Close(within(t, 20*time.Second)) }()
			}
		}
		require.ErrorIs(t, last, messaging.ErrClosed)
		require.NoError(t, next(t, closed))
	})
}

// What is acknowledged on a queue is gone: only a stream can be read.
func TestAQueueIsNoStream(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	conn := b.Connect(t, b.Config())
	for _, kind := range []messaging.QueueType{messaging.Quorum, messaging.Classic, ""} {
		q := messaging.Queue{Name: "kept-" + string(kind), Type: kind}
		_, err := ch.QueueDeclare(q.Name, true, false, false, false, amqp.Table{"x-queue-type": string(cmp.Or(kind, messaging.Quorum))})
		require.NoError(t, err)
		sent := publishTo(t, conn, q.Name, "x")
		var errs []error
		for d, err := range conn.Stream(within(t, 20*time.Second), q, messaging.FirstOffset()) {
			require.Nil(t, d)
			errs = append(errs, err)
		}
		require.Len(t, errs, 1)
		require.ErrorContains(t, errs[0], `Stream: the queue "`+q.Name+`" is of type`)
		require.Equal(t, sent.ID, get(t, ch, q.Name).MessageId)
	}
}
