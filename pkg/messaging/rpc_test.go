package messaging_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

var upper = messaging.Procedure[string, string]{
	Route:   messaging.Route{Exchange: "calls", Key: "upper"},
	Request: messaging.MessageType{Name: "upper.v1", Exchange: "calls", Owner: owner},
	Reply:   messaging.MessageType{Name: "upper.reply.v1", Owner: owner},
}

// serve starts a server of upper, and gives what it was asked.
func serve(t *testing.T, b *messagingtest.BrokerInfo) (*messaging.Conn, *messaging.Consumer, chan string) {
	t.Helper()
	ch := raw(t, b)
	require.NoError(t, ch.ExchangeDeclare("calls", "direct", true, false, false, false, nil))
	_, err := ch.QueueDeclare("calls", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind("calls", "upper", "calls", false, nil))
	conn := b.Connect(t, b.Config())
	asked := make(chan string, 1000)
	mux := messaging.NewMux("")
	mux.Handle(upper.Request, messaging.Serve(conn.Publisher(), upper, func(ctx context.Context, _ *messaging.Delivery, word string) (string, error) {
		asked <- word
		switch word {
		case "refuse":
			return "", &messaging.RemoteError{Code: "no", Message: "never", Fields: map[string]string{"word": "bad"}}
		case "fail":
			return "", errors.New("secret detail")
		case "hang":
			<-ctx.Done()
			return "", ctx.Err()
		}
		return strings.ToUpper(word), nil
	}))
	consumer, err := conn.Consume(messaging.Queue{Name: "calls", Type: messaging.Classic}, mux.Handler(), messaging.Concurrency(8))
	require.NoError(t, err)
	return conn, consumer, asked
}

func TestCall(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn, consumer, asked := serve(t, b)
	caller := conn.Caller()
	call := func(t *testing.T, timeout time.Duration, word string) (string, error) {
		t.Helper()
		return messaging.Call(within(t, timeout), caller, upper, word)
	}
	t.Run("an answer", func(t *testing.T) {
		got, err := call(t, 10*time.Second, "hello")
		require.NoError(t, err)
		require.Equal(t, "HELLO", got)
	})
	t.Run("a coded refusal", func(t *testing.T) {
		_, err := call(t, 10*time.Second, "refuse")
		var remote *messaging.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Equal(t, "no", remote.Code)
		require.Equal(t, map[string]string{"word": "bad"}, remote.Fields)
	})
	t.Run("an error keeps its text at home", func(t *testing.T) {
		_, err := call(t, 10*time.Second, "fail")
		require.ErrorContains(t, err, messaging.CodeUnavailable)
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("many callers, one channel", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				got, err := messaging.Call(within(t, 20*time.Second), caller, upper, "x")
				require.NoError(t, err)
				require.Equal(t, "X", got)
			})
		}
		wg.Wait()
	})
	t.Run("the deadline", func(t *testing.T) {
		_, err := call(t, 200*time.Millisecond, "hang")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("no deadline", func(t *testing.T) {
		_, err := messaging.Call(t.Context(), caller, upper, "x")
		require.ErrorContains(t, err, "no deadline")
	})
	t.Run("nobody to call", func(t *testing.T) {
		nowhere := upper
		nowhere.Route.Key = "nowhere"
		_, err := messaging.Call(within(t, 10*time.Second), caller, nowhere, "x")
		require.ErrorIs(t, err, messaging.ErrUnroutable)
	})
	t.Run("an expired request never reaches the handler", func(t *testing.T) {
		require.NoError(t, consumer.Drain(within(t, 5*time.Second)))
		for len(asked) > 0 {
			<-asked
		}
		_, err := call(t, 100*time.Millisecond, "too late")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, b.Depth(t, "calls"), "expired in its queue")
		require.Empty(t, asked)
	})
}

func TestOpenCallsFailWhenTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	_, _, asked := serve(t, b)
	proxy := messagingtest.NewProxy(t, b) // the caller's only: a server that loses its own would answer "unavailable"
	config := b.Config()
	config.URLs = []string{proxy.URL}
	caller := b.Connect(t, config).Caller()
	results := make(chan error, 10)
	for range 5 {
		go func() {
			_, err := messaging.Call(within(t, 4*time.Second), caller, upper, "hang")
			results <- err
		}()
	}
	for range 5 {
		<-asked
	}
	proxy.Cut()
	for range 5 {
		require.ErrorIs(t, <-results, messaging.ErrConnectionLost)
	}
	proxy.Restore()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		_, err := messaging.Call(within(t, 2*time.Second), caller, upper, "again")
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}
