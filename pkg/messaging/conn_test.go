package messaging_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// silentHost accepts connections and never answers, like a host that hangs.
type silentHost struct {
	url      string
	accepted chan struct{} // one for each connection
}

func newSilentHost(t *testing.T) *silentHost {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &silentHost{url: "amqp://" + l.Addr().String() + "/", accepted: make(chan struct{}, 100)}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			s.accepted <- struct{}{}
		}
	})
	t.Cleanup(func() { _ = l.Close(); accepting.Wait() })
	return s
}

func TestAHostThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	t.Run("is passed over", func(t *testing.T) {
		t.Parallel()
		b := messagingtest.Broker(t)
		s := newSilentHost(t)
		// The order is drawn at random: again until it was the silent one's turn.
		for len(s.accepted) == 0 {
			config := b.Config()
			config.URLs, config.DialTimeout = []string{s.url, b.URL}, time.Second
			config.User, config.Password = b.User, b.Password
			conn, err := messaging.Connect(within(t, 20*time.Second), config)
			require.NoError(t, err)
			require.NoError(t, conn.Ready(), "at once")
			require.NoError(t, conn.Close(within(t, 5*time.Second)))
		}
	})
	t.Run("does not hold up who stops waiting", func(t *testing.T) {
		t.Parallel()
		s := newSilentHost(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		go func() {
			_, err := messaging.Connect(ctx, messaging.Config{URLs: []string{s.url}, DialTimeout: time.Minute})
			failed <- err
		}()
		<-s.accepted
		cancel()
		select {
		case err := <-failed:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.After(5 * time.Second):
			t.Fatal("Connect does not notice that nobody waits for it")
		}
	})
	t.Run("does not hold up who closes", func(t *testing.T) {
		t.Parallel()
		b := messagingtest.Broker(t)
		proxy := messagingtest.NewProxy(t, b)
		config := b.Config()
		config.URLs, config.DialTimeout, config.MaxBackoff = []string{proxy.URL}, time.Minute, 10*time.Millisecond
		conn, err := messaging.Connect(within(t, 20*time.Second), config)
		require.NoError(t, err)
		proxy.Stall()
		proxy.Cut()
		proxy.Restore() // from now on connections are accepted, and nothing comes back
		messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
			return proxy.Connections() == 1, "the link is not dialling"
		})
		closed := make(chan error, 1)
		go func() { closed <- conn.Close(within(t, time.Second)) }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(5 * time.Second):
			t.Error("Close does not end with its context")
			proxy.Cut()
			t.Log(<-closed)
		}
	})
	t.Run("does not hide why the others fail", func(t *testing.T) {
		t.Parallel()
		s := newSilentHost(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		go func() {
			_, err := messaging.Connect(ctx, messaging.Config{
				URLs: []string{s.url, s.url, s.url, s.url, "amqp://127.0.0.1:1/"}, DialTimeout: 100 * time.Millisecond,
			})
			failed <- err
		}()
		for range 5 { // the fifth is of the second round, which ends halfway
			<-s.accepted
		}
		cancel()
		require.ErrorContains(t, <-failed, "connection refused")
	})
}

func TestQueueState(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	_, err := raw(t, b).QueueDeclare("q", true, false, false, false, nil)
	require.NoError(t, err)
	conn := b.Connect(t, b.Config())
	_, err = conn.QueueState(within(t, 20*time.Second), "none")
	require.ErrorIs(t, err, messaging.ErrNotFound)
	require.ErrorContains(t, err, `"none"`)

	publishTo(t, conn, "q", "x")
	state, err := conn.QueueState(within(t, 20*time.Second), "q")
	require.NoError(t, err)
	require.Equal(t, messaging.QueueState{Messages: 1}, state)

	handled := make(chan struct{}, 1)
	for range 2 {
		_, err := conn.Consume(messaging.Queue{Name: "q", Type: messaging.Classic}, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
			handled <- struct{}{}
			return nil
		}))
		require.NoError(t, err)
	}
	next(t, handled)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		state, err := conn.QueueState(within(t, 20*time.Second), "q")
		require.NoError(t, err)
		return state == messaging.QueueState{Consumers: 2}, fmt.Sprintf("%+v", state)
	})
}
