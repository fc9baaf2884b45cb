package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// soon is a context that is over when nothing can have happened any more.
func soon(t *testing.T) context.Context {
	t.Helper()
	return within(t, 300*time.Millisecond)
}

// requireEnded requires an error of a context that says what the call waited for, and that is
// none of the errors with an outcome of a message.
func requireEnded(t *testing.T, err error, want string) {
	t.Helper()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, want)
	for _, other := range []error{messaging.ErrConnectionLost, messaging.ErrRefused, messaging.ErrClosed, messaging.ErrTooManyChannels} {
		require.NotErrorIs(t, err, other)
	}
}

// An error of a context says what the call waited for: here that no node answers.
func TestEndedWhileNoNodeAnswers(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declareCalls(t, raw(t, b))
	stream := messaging.Queue{Name: "log", Type: messaging.Stream}
	proxy := messagingtest.NewProxy(t, b)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	conn := b.Connect(t, config)
	p := publisher(t, conn)
	publishTo(t, conn, "calls", "x")
	proxy.Cut()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		err := conn.Ready()
		return err != nil, "still ready"
	})
	err := p.Publish(soon(t), messaging.Route{Key: "calls"}, message(t, "x"))
	requireEnded(t, err, "not sent: context deadline exceeded (connection \"publish\" is down: ")
	err = p.Publish(soon(t), messaging.Route{Exchange: "calls"}, message(t, "x"))
	requireEnded(t, err, "not sent: context deadline exceeded (connection \"publish")
	_, err = messaging.Call(soon(t), conn.Caller(), upper, "x")
	requireEnded(t, err, "context deadline exceeded (connection \"publish to exchange calls\" is ")
	_, err = conn.QueueState(soon(t), "calls")
	requireEnded(t, err, "context deadline exceeded (connection \"look at calls\" is ")
	for _, err := range conn.Stream(soon(t), stream, messaging.FirstOffset()) {
		requireEnded(t, err, "context deadline exceeded (connection \"read log\" is ")
	}
}

// The broker refuses the user, who is gone since the connection was made.
func TestEndedWhileTheLoginIsRefused(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	user := "gone-" + b.VHost
	b.Management(t, http.MethodPut, "/api/users/"+user, map[string]any{"password": "x", "tags": ""}, nil)
	b.Management(t, http.MethodPut, "/api/permissions/"+b.VHost+"/"+user, map[string]any{"configure": "", "write": ".*", "read": ""}, nil)
	config := b.Config()
	config.URLs = []string{b.WithUser(t, user, "x")}
	conn := b.Connect(t, config)
	p := publisher(t, conn)
	require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "jobs"}, message(t, "x")))
	b.Management(t, http.MethodDelete, "/api/users/"+user, nil, nil)
	b.CloseAllConnections(t)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { // the broker takes 3 s to refuse
		err := p.Publish(soon(t), messaging.Route{Key: "jobs"}, message(t, "x"))
		return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "ACCESS_REFUSED"), fmt.Sprint(err)
	})
	requireEnded(t, p.Publish(soon(t), messaging.Route{Key: "jobs"}, message(t, "x")), "connection \"publish\" is down: ")
}

// A queue confirms nothing, and a server answers nothing.
func TestEndedWhileNothingIsConfirmedOrAnswered(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "frozen", 20)
	declareCalls(t, raw(t, b))
	conn := b.Connect(t, b.Config())
	p := publisher(t, conn, messaging.Window(1))
	require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "frozen"}, message(t, "the first of its channel")))
	thaw := b.Freeze(t, "frozen")
	defer thaw()
	m := message(t, "x")
	sent := p.PublishAsync(soon(t), messaging.Route{Key: "frozen"}, m)
	requireEnded(t, sent.Wait(soon(t)), "outcome unknown: context deadline exceeded (sent, and not confirmed for ")
	require.Equal(t, m, sent.Message())
	require.Equal(t, messaging.Route{Key: "frozen"}, sent.Route())
	requireEnded(t, p.Publish(soon(t), messaging.Route{Key: "frozen"}, message(t, "y")),
		"not sent: context deadline exceeded (the window is full: 1 messages are not confirmed)")
	_, err := messaging.Call(within(t, 3*time.Second), conn.Caller(), upper, "x")
	requireEnded(t, err, "context deadline exceeded (the broker has the request, and no answer has come)")
	err = p.Close(soon(t))
	requireEnded(t, err, "close the publisher: context deadline exceeded (1 messages have no outcome)")
}

// A batch says which of its messages failed, and why.
func TestABatchSaysWhichFailed(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declare(t, ch, "jobs", 20)
	require.NoError(t, ch.QueueBind("jobs", "", "amq.headers", false, amqp.Table{"take": "yes"}))
	p := publisher(t, b.Connect(t, b.Config()))
	batch := []messaging.Message{message(t, 0), message(t, 1), message(t, 2), message(t, 3)}
	for i, headers := range []map[string]any{{"take": "yes"}, {"bad": struct{}{}}, {"take": "yes"}, nil} {
		batch[i].Headers = headers
	}
	err := p.PublishBatch(within(t, 20*time.Second), messaging.Route{Exchange: "amq.headers"}, batch)
	var failed *messaging.BatchError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 4, failed.Messages)
	require.Len(t, failed.Failed, 2)
	require.Equal(t, 1, failed.Failed[0].Index)
	require.Equal(t, batch[1].ID, failed.Failed[0].MessageID)
	require.ErrorIs(t, failed.Failed[0].Err, messaging.ErrInvalid)
	require.Equal(t, 3, failed.Failed[1].Index)
	require.ErrorIs(t, failed.Failed[1].Err, messaging.ErrUnroutable)
	require.ErrorIs(t, err, messaging.ErrInvalid)
	require.ErrorIs(t, err, messaging.ErrUnroutable)
	require.NotErrorIs(t, err, messaging.ErrNacked)
	require.Equal(t, 2, b.Depth(t, "jobs"))
	require.ErrorContains(t, err, "2 of 4 messages failed, the first: publish "+batch[1].ID)
}
