package messaging_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// unobserved lets a server serve more requests than its channels have room for.
func (s *server) unobserved(t *testing.T) *server {
	t.Helper()
	done := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-s.asked:
			case <-s.verdicts:
			case <-done:
				return
			}
		}
	})
	t.Cleanup(func() { close(done); reading.Wait() })
	return s
}

// calling calls upper again and again until it is stopped. No call may fail.
func calling(t *testing.T, caller *messaging.Caller) (answered *atomic.Int64, stop func()) {
	t.Helper()
	answered = new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			for ctx.Err() == nil {
				one, done := context.WithTimeout(context.Background(), 30*time.Second)
				_, err := messaging.Call(one, caller, upper, "x")
				done()
				if err != nil {
					t.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); callers.Wait() })
	t.Cleanup(stop)
	return answered, stop
}

// A call to one exchange or queue that fails does not affect other calls.
func TestACallFailsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route   messaging.Route
		refused string
	}{
		"to an exchange that is missing":                      {messaging.Route{Exchange: "missing"}, "404"},
		"over which the broker closes the connection":         {missingExchange, "541"},
		"to a queue without a leader":                         {messaging.Route{Key: "frozen"}, ""},
		"to a queue without a leader, behind an exchange":     {messaging.Route{Exchange: "cold"}, ""},
		"to an exchange into which nobody may publish at all": {messaging.Route{Exchange: "amq.rabbitmq.trace"}, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			serve(t, b).unobserved(t)
			declare(t, ch, "frozen", 20)
			require.NoError(t, ch.ExchangeDeclare("cold", "fanout", true, false, false, false, nil))
			require.NoError(t, ch.QueueBind("frozen", "", "cold", false, nil))
			b.Freeze(t, "frozen")
			caller := b.Connect(t, b.Config()).Caller()
			answered, stop := calling(t, caller)
			procedure := upper
			procedure.Route = c.route
			for range 3 {
				timeout := 20 * time.Second
				if c.refused == "" {
					timeout = 500 * time.Millisecond
				}
				_, err := messaging.Call(within(t, timeout), caller, procedure, "x")
				if c.refused == "" {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				} else {
					require.ErrorIs(t, err, messaging.ErrRefused)
					require.NotErrorIs(t, err, messaging.ErrConnectionLost)
					require.ErrorContains(t, err, c.refused)
				}
				awaitMore(t, answered, 20)
			}
			stop()
			began := time.Now()
			require.NoError(t, caller.Close(within(t, 10*time.Second)))
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

func TestCloseFailsTheOpenCalls(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	defer close(s.release)
	for name, end := range map[string]func(*messaging.Conn, *messaging.Caller) error{
		"of the caller": func(_ *messaging.Conn, c *messaging.Caller) error { return c.Close(within(t, 10*time.Second)) },
		"of the Conn":   func(c *messaging.Conn, _ *messaging.Caller) error { return c.Close(within(t, 10*time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := messaging.Connect(within(t, 20*time.Second), b.Config())
			require.NoError(t, err)
			defer func() { _ = conn.Close(within(t, 10*time.Second)) }()
			caller := conn.Caller()
			failed := make(chan error, 1)
			go func() {
				_, err := messaging.Call(within(t, time.Minute), caller, upper, "wait")
				failed <- err
			}()
			require.Equal(t, "wait", next(t, s.asked))
			require.NoError(t, end(conn, caller))
			require.ErrorIs(t, next(t, failed), messaging.ErrClosed)
			_, err = messaging.Call(within(t, time.Minute), caller, upper, "x")
			require.ErrorIs(t, err, messaging.ErrClosed)
		})
	}
}

// When an answer cannot be sent the caller gets an error, and no other answer is lost.
func TestAReplyThatCannotBeSent(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b, messaging.Prefetch(16)).unobserved(t)
	ch := raw(t, b)
	_, err := ch.QueueDeclare("odd", true, false, false, false, nil)
	require.NoError(t, err)
	config := b.Config()
	config.MaxMessageSize = 64 << 20 // more than the broker takes
	generous := b.Connect(t, config)
	odd := messaging.Procedure[string, string]{Route: messaging.Route{Key: "odd"}, Request: upper.Request, Reply: upper.Reply}
	odd.Request.Exchange = ""
	replies := map[string]func() (string, error){
		"too large for the broker": func() (string, error) { return strings.Repeat("x", 17<<20), nil },
		"a code that is no text":   func() (string, error) { return "", &messaging.RemoteError{Code: "caf\xe9"} },
		"a code that is too large": func() (string, error) { return "", &messaging.RemoteError{Code: string(make([]byte, 200<<10))} },
		"an error that is nil":     func() (string, error) { return "", (*messaging.RemoteError)(nil) },
	}
	_, err = generous.Consume(messaging.Queue{Name: "odd", Type: messaging.Classic}, messaging.Serve(publisher(t, generous), odd,
		func(_ context.Context, _ *messaging.Delivery, what string) (string, error) { return replies[what]() }), messaging.Concurrency(4))
	require.NoError(t, err)
	caller := s.conn.Caller()
	answered, stop := calling(t, b.Connect(t, b.Config()).Caller())
	for what := range replies {
		_, err := messaging.Call(within(t, 20*time.Second), caller, odd, what)
		var remote *messaging.RemoteError
		require.ErrorAs(t, err, &remote, what)
		require.Equal(t, messaging.CodeUnavailable, remote.Code, what)
		awaitMore(t, answered, 10)
	}
	stop()

	// With the limit that the broker has, the large one is not sent at all.
	large := upper
	large.Route.Key = "large"
	_, err = ch.QueueDeclare("large", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind("large", "large", "calls", false, nil))
	var failed atomic.Value
	config = b.Config()
	config.Observers = []messaging.Observer{onConfirm(func(e messaging.ConfirmEvent) {
		if e.Err != nil {
			failed.Store(e.Err)
		}
	})}
	strict := b.Connect(t, config)
	_, err = strict.Consume(messaging.Queue{Name: "large", Type: messaging.Classic}, messaging.Serve(publisher(t, strict), large,
		func(context.Context, *messaging.Delivery, string) (string, error) {
			return strings.Repeat("x", 17<<20), nil
		}))
	require.NoError(t, err)
	_, err = messaging.Call(within(t, 20*time.Second), caller, large, "x")
	require.ErrorContains(t, err, messaging.CodeUnavailable)
	require.ErrorIs(t, failed.Load().(error), messaging.ErrInvalid)
}

// A server without the right to answer logs that, and the call ends at its deadline.
func TestAServerThatMayNotAnswer(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declareCalls(t, ch)
	mute := messaging.User{Name: "mute-" + b.VHost, Write: "^$", Read: "^calls$"}
	t.Cleanup(func() { b.Management(t, "DELETE", "/api/users/"+mute.Name, nil, nil) })
	require.NoError(t, messaging.ApplyUsers(within(t, 30*time.Second), b.Admin(), []messaging.User{mute}, func(string) (string, error) { return "x", nil }))
	config := b.Config()
	config.URLs = []string{b.WithUser(t, mute.Name, "x")}
	conn, log := observed(t, b, config)
	_, err := conn.Consume(messaging.Queue{Name: "calls", Type: messaging.Classic}, messaging.Serve(publisher(t, conn), upper,
		func(_ context.Context, _ *messaging.Delivery, word string) (string, error) { return word, nil }))
	require.NoError(t, err)
	_, err = messaging.Call(within(t, 2*time.Second), b.Connect(t, b.Config()).Caller(), upper, "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		for _, entry := range log.All() {
			if text, _ := entry.ContextMap()["error"].(string); strings.Contains(text, "ACCESS_REFUSED") {
				return true, ""
			}
		}
		return false, "nothing is logged"
	})
}

func TestLateAnswersAreDropped(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	caller := s.conn.Caller()
	ctx, giveUp := context.WithCancel(within(t, time.Minute))
	failed := make(chan error, 1)
	go func() {
		_, err := messaging.Call(ctx, caller, upper, "wait")
		failed <- err
	}()
	require.Equal(t, "wait", next(t, s.asked))
	giveUp()
	require.ErrorIs(t, next(t, failed), context.Canceled)
	late := func() int { return s.log.FilterMessage("late answer dropped").Len() }
	require.Zero(t, late())
	close(s.release)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		return late() == 1, fmt.Sprintf("%d were late", late())
	})
	got, err := messaging.Call(within(t, 20*time.Second), caller, upper, "next")
	require.NoError(t, err)
	require.Equal(t, "NEXT", got)
	require.Equal(t, 1, late())
}
