package messaging_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// A panic that went back to the queue would come again, at once and for ever.
func TestAPanicIsAnAnswerToo(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	caller := s.conn.Caller()
	_, err := messaging.Call(within(t, 20*time.Second), caller, upper, "panic")
	var remote *messaging.RemoteError
	require.ErrorAs(t, err, &remote)
	require.Equal(t, messaging.CodeUnavailable, remote.Code)
	require.NotContains(t, err.Error(), "secret")
	require.Equal(t, messaging.Dropped, next(t, s.verdicts).Verdict)
	require.Equal(t, "panic", next(t, s.asked))
	require.Empty(t, s.asked)
	panics := s.log.FilterMessage("procedure panicked").All()
	require.Len(t, panics, 1)
	require.Contains(t, panics[0].ContextMap()["stack"], "rpc_test.go")
}

func TestAReplyThatCannotBeEncodedIsAnAnswerToo(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declareCalls(t, raw(t, b))
	conn := b.Connect(t, b.Config())
	broken := messaging.Procedure[string, func()](upper)
	_, err := conn.Consume(messaging.Queue{Name: "calls", Type: messaging.Classic}, messaging.Serve(publisher(t, conn), broken,
		func(context.Context, *messaging.Delivery, string) (func(), error) { return func() {}, nil }))
	require.NoError(t, err)
	_, err = messaging.Call(within(t, 20*time.Second), conn.Caller(), upper, "x")
	require.ErrorContains(t, err, messaging.CodeUnavailable)
}

// When the function takes longer than the server's timeout the caller gets an answer.
func TestAServerOutOfTimeAnswers(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b, messaging.HandlerTimeout(50*time.Millisecond))
	caller := s.conn.Caller()
	for range 5 { // a select between a finished context and something else draws lots
		_, err := messaging.Call(within(t, 30*time.Second), caller, upper, "hang")
		require.ErrorContains(t, err, messaging.CodeUnavailable)
	}
}

// A request that a server gives up because it stops is answered by another one.
func TestAnUnfinishedRequestGoesToAnotherServer(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*testing.T, *server, *messagingtest.Proxy){
		"of one that stops": func(t *testing.T, s *server, _ *messagingtest.Proxy) {
			require.NoError(t, s.consumer.Stop(within(t, 20*time.Second)))
			require.Equal(t, messaging.GivenBack, next(t, s.verdicts).Verdict)
		},
		"of one that loses its connection": func(t *testing.T, s *server, proxy *messagingtest.Proxy) {
			proxy.Cut()
			require.Equal(t, messaging.Stale, next(t, s.verdicts).Verdict)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			declareCalls(t, raw(t, b))
			proxy := messagingtest.NewProxy(t, b)
			first := newServerAt(t, b, proxy.URL)
			type result struct {
				word string
				err  error
			}
			results := make(chan result, 1)
			caller := b.Connect(t, b.Config()).Caller()
			go func() {
				word, err := messaging.Call(within(t, time.Minute), caller, upper, "wait")
				results <- result{word, err}
			}()
			require.Equal(t, "wait", next(t, first.asked))
			leave(t, first, proxy)
			second := newServer(t, b)
			close(second.release)
			got := next(t, results)
			require.NoError(t, got.err)
			require.Equal(t, "WAIT", got.word)
			require.Equal(t, "wait", next(t, second.asked))
		})
	}
}
