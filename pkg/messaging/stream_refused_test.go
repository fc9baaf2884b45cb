package messaging_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// readOne gives the first message, or the error that ended the reading.
func readOne(t *testing.T, conn *messaging.Conn, q messaging.Queue, from messaging.Offset, opts ...messaging.StreamOption) (*messaging.Delivery, error) {
	t.Helper()
	for d, err := range conn.Stream(within(t, 30*time.Second), q, from, opts...) {
		return d, err
	}
	t.Fatal("neither a message nor an error")
	return nil, nil
}

// Invalid options are an error at once.
func TestAStreamReaderThatCannotRead(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	log := messaging.Queue{Name: "log", Type: messaging.Stream}
	_, err := readOne(t, conn, log, messaging.OffsetAt(-1))
	require.ErrorContains(t, err, "Offset")
	for _, credit := range []int{-1, 0, 1 << 16} {
		_, err = readOne(t, conn, log, messaging.FirstOffset(), messaging.Credit(credit))
		require.ErrorContains(t, err, "Credit")
	}
	_, err = readOne(t, conn, messaging.Queue{Name: "log", Type: messaging.Stream, Retry: messaging.Retry{Limit: 3}}, messaging.FirstOffset(), nil)
	require.ErrorContains(t, err, "Retry")
}

// A refusal of the broker that will not go away by waiting ends the reading with its error.
func TestAStreamReaderThatIsRefused(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	log := messaging.Queue{Name: "log", Type: messaging.Stream}
	_, err := ch.QueueDeclare("log", true, false, false, false, amqp.Table{"x-queue-type": "stream"})
	require.NoError(t, err)
	_, err = ch.QueueDeclare("jobs", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)

	user := "reader-" + b.VHost
	b.Management(t, http.MethodPut, "/api/users/"+user, map[string]any{"password": "x", "tags": ""}, nil)
	t.Cleanup(func() { b.Management(t, http.MethodDelete, "/api/users/"+user, nil, nil) })
	b.Management(t, http.MethodPut, "/api/permissions/"+b.VHost+"/"+user, map[string]any{"configure": "", "write": "", "read": ""}, nil)
	config := b.Config()
	config.URLs = []string{b.WithUser(t, user, "x")}
	_, err = readOne(t, b.Connect(t, config), log, messaging.FirstOffset())
	var refused *amqp.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, amqp.AccessRefused, refused.Code)

	// A queue that the description takes for a stream.
	conn := b.Connect(t, b.Config())
	sent := publishTo(t, conn, "jobs", "x")
	_, err = readOne(t, conn, messaging.Queue{Name: "jobs", Type: messaging.Stream}, messaging.FirstOffset())
	require.ErrorAs(t, err, &refused)
	require.Equal(t, sent.ID, get(t, ch, "jobs").MessageId)
}

// A reader waits for a stream that does not exist yet. Ready says so, and one log line.
func TestAStreamThatComesLater(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	core, logs := observer.New(zapcore.WarnLevel)
	config := b.Config()
	config.Logger = zap.New(core)
	conn := b.Connect(t, config)
	log := messaging.Queue{Name: "log", Type: messaging.Stream}
	got := make(chan *messaging.Delivery, 10)
	ended := make(chan error, 1)
	go func() {
		for d, err := range conn.Stream(within(t, time.Minute), log, messaging.FirstOffset()) {
			if err != nil {
				ended <- err
				return
			}
			got <- d
		}
	}()
	missing := func() []observer.LoggedEntry { return logs.FilterMessageSnippet("stream reader").All() }
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		err := conn.Ready()
		return err != nil && len(missing()) > 0, fmt.Sprint(err)
	})
	require.ErrorContains(t, conn.Ready(), `stream "log": not reading`)
	b.CloseAllConnections(t) // and it goes on
	_, err := raw(t, b).QueueDeclare("log", true, false, false, false, amqp.Table{"x-queue-type": "stream"})
	require.NoError(t, err)
	sent := publishTo(t, conn, "log", "x")
	require.Equal(t, sent.ID, next(t, got).ID)
	require.NoError(t, conn.Ready())
	texts := map[string]int{}
	for _, entry := range missing() {
		texts[fmt.Sprint(entry.ContextMap()["error"])]++
	}
	for text, times := range texts {
		require.Equal(t, 1, times, text)
	}
	require.NoError(t, conn.Close(within(t, 20*time.Second)))
	require.ErrorIs(t, next(t, ended), messaging.ErrClosed)
	require.NotContains(t, fmt.Sprint(conn.Ready()), "log", "nobody reads it any more")
}
