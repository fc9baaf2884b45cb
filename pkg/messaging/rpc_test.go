package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

var upper = messaging.Procedure[string, string]{
	Route:   messaging.Route{Exchange: "calls", Key: "upper"},
	Request: messaging.MessageType{Name: "upper.v1", Exchange: "calls", Owner: owner},
	Reply:   messaging.MessageType{Name: "upper.reply.v1", Owner: owner},
}

// declareCalls declares the queue of upper.
func declareCalls(t *testing.T, ch *amqp.Channel) {
	t.Helper()
	require.NoError(t, ch.ExchangeDeclare("calls", "direct", true, false, false, false, nil))
	_, err := ch.QueueDeclare("calls", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind("calls", "upper", "calls", false, nil))
}

// server serves upper on a connection of its own.
type server struct {
	conn     *messaging.Conn
	consumer *messaging.Consumer
	asked    chan string   // the words that reached the function
	release  chan struct{} // lets "wait" go
	verdicts chan verdict
	log      *observer.ObservedLogs
}

type verdict struct {
	id string
	messaging.Verdict
}

const serverConcurrency = 8

func newServer(t *testing.T, b *messagingtest.BrokerInfo, opts ...messaging.ConsumeOption) *server {
	t.Helper()
	return newServerAt(t, b, b.URL, opts...)
}

func newServerAt(t *testing.T, b *messagingtest.BrokerInfo, url string, opts ...messaging.ConsumeOption) *server {
	t.Helper()
	core, log := observer.New(zap.DebugLevel)
	s := &server{asked: make(chan string, 1000), release: make(chan struct{}), verdicts: make(chan verdict, 1000), log: log}
	config := b.Config()
	config.URLs, config.Logger = []string{url}, zap.New(core)
	config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { s.verdicts <- verdict{e.Delivery.ID, e.Verdict} })}
	s.conn = b.Connect(t, config)
	var together atomic.Int32
	all := make(chan struct{})
	mux := messaging.NewMux("")
	mux.Handle(upper.Request, messaging.Serve(publisher(t, s.conn), upper, func(ctx context.Context, _ *messaging.Delivery, word string) (string, error) {
		s.asked <- word
		switch word {
		case "refuse":
			return "", &messaging.RemoteError{Code: "no", Message: "never", Fields: map[string]string{"word": "bad"}}
		case "fail":
			return "", errors.New("secret detail")
		case "panic":
			panic("secret detail")
		case "hang":
			<-ctx.Done()
			return "", ctx.Err()
		case "wait":
			select {
			case <-s.release:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		case "together":
			if together.Add(1) == serverConcurrency {
				close(all)
			}
			select {
			case <-all:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		return strings.ToUpper(word), nil
	}))
	opts = append([]messaging.ConsumeOption{messaging.Concurrency(serverConcurrency)}, opts...)
	consumer, err := s.conn.Consume(messaging.Queue{Name: "calls", Type: messaging.Classic}, mux.Handler(), opts...)
	require.NoError(t, err)
	s.consumer = consumer
	return s
}

// serve declares the queue and starts one server.
func serve(t *testing.T, b *messagingtest.BrokerInfo, opts ...messaging.ConsumeOption) *server {
	t.Helper()
	declareCalls(t, raw(t, b))
	return newServer(t, b, opts...)
}

func TestCall(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	caller := s.conn.Caller()
	call := func(t *testing.T, word string) (string, error) {
		t.Helper()
		return messaging.Call(within(t, 20*time.Second), caller, upper, word)
	}
	t.Run("an answer", func(t *testing.T) {
		got, err := call(t, "hello")
		require.NoError(t, err)
		require.Equal(t, "HELLO", got)
	})
	t.Run("a coded refusal", func(t *testing.T) {
		_, err := call(t, "refuse")
		var remote *messaging.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Equal(t, "no", remote.Code)
		require.Equal(t, map[string]string{"word": "bad"}, remote.Fields)
	})
	t.Run("an error keeps its text at home", func(t *testing.T) {
		_, err := call(t, "fail")
		require.ErrorContains(t, err, messaging.CodeUnavailable)
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("a request that is not understood", func(t *testing.T) {
		wrong := messaging.Procedure[int, string](upper)
		_, err := messaging.Call(within(t, 20*time.Second), caller, wrong, 7)
		require.ErrorContains(t, err, messaging.CodeInvalidRequest)
	})
	t.Run("many callers, one channel, each its own answer", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				word := fmt.Sprintf("word %d", i)
				got, err := call(t, word)
				if err != nil || got != strings.ToUpper(word) {
					t.Errorf("%q: got %q, %v", word, got, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("a server that serves many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range serverConcurrency {
			wg.Go(func() {
				if got, err := call(t, "together"); err != nil || got != "TOGETHER" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("the deadline", func(t *testing.T) {
		_, err := messaging.Call(within(t, 200*time.Millisecond), caller, upper, "hang")
		var remote *messaging.RemoteError // the server has the same deadline, in whole milliseconds
		if !errors.As(err, &remote) || remote.Code != messaging.CodeUnavailable {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
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
}

// A user who can read requests can answer them, but not as the server.
func TestAnAnswerOfAnotherUserIsRefused(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declareCalls(t, raw(t, b))
	stranger := messaging.User{Name: "u-" + uuid.NewString(), Write: "^amq.default$", Read: "^calls$"}
	t.Cleanup(func() { b.Management(t, "DELETE", "/api/users/"+stranger.Name, nil, nil) })
	require.NoError(t, messaging.ApplyUsers(within(t, 30*time.Second), b.Admin(), []messaging.User{stranger}, func(string) (string, error) { return "x", nil }))
	conn, err := amqp.Dial(b.WithUser(t, stranger.Name, "x"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	strangers, err := conn.Channel()
	require.NoError(t, err)
	owners := raw(t, b)
	caller := b.Connect(t, b.Config()).Caller()
	for _, c := range []struct {
		name    string
		ch      *amqp.Channel
		reply   amqp.Publishing
		trusted bool
	}{
		{"the server's", owners, amqp.Publishing{Type: upper.Reply.Name, UserId: owner}, true},
		{"of another user", strangers, amqp.Publishing{Type: upper.Reply.Name, UserId: stranger.Name}, false},
		{"of no user", strangers, amqp.Publishing{Type: upper.Reply.Name}, false},
		{"of another type", owners, amqp.Publishing{Type: "other.v1", UserId: owner}, false},
		{"of another user, as an error", strangers, amqp.Publishing{
			Type: upper.Reply.Name, UserId: stranger.Name, Headers: amqp.Table{messaging.HeaderError: "no"},
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			type result struct {
				word string
				err  error
			}
			results := make(chan result, 1)
			go func() {
				word, err := messaging.Call(within(t, 30*time.Second), caller, upper, "x")
				results <- result{word, err}
			}()
			d := get(t, c.ch, "calls")
			c.reply.CorrelationId, c.reply.ContentType, c.reply.Body = d.CorrelationId, "application/json", []byte(`"taken"`)
			require.NoError(t, c.ch.PublishWithContext(t.Context(), "", d.ReplyTo, false, false, c.reply))
			got := next(t, results)
			if c.trusted {
				require.NoError(t, got.err)
				require.Equal(t, "taken", got.word)
				return
			}
			require.ErrorIs(t, got.err, messaging.ErrUntrustedSource)
			require.Empty(t, got.word)
		})
	}
}

func TestOpenCallsFailWhenTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	proxy := messagingtest.NewProxy(t, b) // only the caller connects through it
	config := b.Config()
	config.URLs = []string{proxy.URL}
	caller := b.Connect(t, config).Caller()
	results := make(chan error, 10)
	for range 5 {
		go func() {
			_, err := messaging.Call(within(t, time.Minute), caller, upper, "wait")
			results <- err
		}()
	}
	for range 5 {
		require.Equal(t, "wait", next(t, s.asked))
	}
	proxy.Cut()
	for range 5 {
		require.ErrorIs(t, next(t, results), messaging.ErrConnectionLost)
	}
	close(s.release)
	proxy.Restore()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		_, err := messaging.Call(within(t, 2*time.Second), caller, upper, "again")
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}
