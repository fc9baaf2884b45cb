package messaging_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The other side of these tests is programs as RabbitMQ's tutorials have them
// (https://www.rabbitmq.com/tutorials): plain text, no user id, no message id, no type,
// no confirms, exclusive queues that the server names.

// text is what the tutorials' programs send.
var text = messaging.MessageType{Codec: messaging.BytesCodec{ContentType: "text/plain"}}

// plainText is a message of theirs.
func plainText(body string) amqp.Publishing {
	return amqp.Publishing{ContentType: "text/plain", Body: []byte(body)}
}

// ours is a text of ours on its way to them.
func ours(t *testing.T, conn *messaging.Conn, route messaging.Route, body string) {
	t.Helper()
	m, err := messaging.NewMessage(text, body)
	require.NoError(t, err)
	p := publisher(t, conn)
	require.NoError(t, p.Publish(within(t, 20*time.Second), route, m))
	require.NoError(t, p.Close(within(t, 5*time.Second)))
}

// textHandler gives a handler of texts, and the texts that it gets.
func textHandler() (messaging.Handler, <-chan string) {
	got := make(chan string, 100)
	return messaging.Typed(text.Codec, func(_ context.Context, _ *messaging.Delivery, body string) error {
		got <- body
		return nil
	}), got
}

// body is what a consumer of theirs got.
func body(t *testing.T, deliveries <-chan amqp.Delivery) string {
	t.Helper()
	d := next(t, deliveries)
	require.Equal(t, "text/plain", d.ContentType)
	return string(d.Body)
}

// Tutorial 1, "Hello World!": one queue.
func TestTutorialHello(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	q, err := ch.QueueDeclare("hello", true, false, false, false, nil)
	require.NoError(t, err)
	conn := b.Connect(t, b.Config())
	handler, got := textHandler()
	consumer, err := conn.Consume(messaging.Queue{Name: q.Name}, handler)
	require.NoError(t, err)

	require.NoError(t, ch.PublishWithContext(t.Context(), "", q.Name, false, false, plainText("Hello World!")))
	require.Equal(t, "Hello World!", next(t, got))
	require.NoError(t, consumer.Drain(within(t, 20*time.Second)))

	deliveries, err := ch.ConsumeWithContext(t.Context(), q.Name, "", true, false, false, false, nil)
	require.NoError(t, err)
	ours(t, conn, messaging.Route{Key: q.Name}, "Hello yourself!")
	require.Equal(t, "Hello yourself!", body(t, deliveries))
}

// Tutorial 2, work queues: persistent tasks, acknowledged by hand, one at a time.
func TestTutorialWorkQueue(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	q, err := ch.QueueDeclare("task_queue", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
	require.NoError(t, ch.Qos(1, 0, false))
	tasks, err := ch.ConsumeWithContext(t.Context(), q.Name, "", false, false, false, false, nil)
	require.NoError(t, err)
	conn := b.Connect(t, b.Config())
	ours(t, conn, messaging.Route{Key: q.Name}, "First...")
	ours(t, conn, messaging.Route{Key: q.Name}, "Second...")
	first := next(t, tasks)
	require.Equal(t, amqp.Persistent, first.DeliveryMode)
	require.Empty(t, tasks)
	require.NoError(t, first.Ack(false))
	second := next(t, tasks)
	require.Equal(t, "Second...", string(second.Body))
	require.NoError(t, second.Ack(false))
	require.NoError(t, ch.Close())

	failed := false
	got := make(chan string, 1)
	_, err = conn.Consume(messaging.Queue{Name: q.Name, Type: messaging.Quorum}, messaging.Typed(text.Codec,
		func(_ context.Context, d *messaging.Delivery, task string) error {
			if !failed {
				failed = true
				return context.DeadlineExceeded
			}
			got <- task + strconv.Itoa(d.Attempt)
			return nil
		}))
	require.NoError(t, err)
	task := plainText("Third...")
	task.DeliveryMode = amqp.Persistent
	require.NoError(t, raw(t, b).PublishWithContext(t.Context(), "", q.Name, false, false, task))
	require.Equal(t, "Third...2", next(t, got))
	empty(t, b, q.Name)
}

// Tutorials 3 to 5, logs over a fanout, a direct and a topic exchange: each bound queue gets a
// copy, and a message without a bound queue is dropped.
func TestTutorialLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ exchange, kind, binding, key, other string }{
		{"logs", "fanout", "", "", ""},
		{"logs_direct", "direct", "error", "error", "info"},
		{"logs_topic", "topic", "kern.*", "kern.critical", "cron.critical"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			ch := raw(t, b)
			require.NoError(t, ch.ExchangeDeclare(c.exchange, c.kind, true, false, false, false, nil))
			conn := b.Connect(t, b.Config())
			handler, got := textHandler()
			mux := messaging.NewMux("")
			from := text
			from.Exchange = c.exchange // any program's that sets no user id
			mux.Handle(from, handler)
			subscribed := make(chan struct{}, 1)
			_, err := conn.Listen(messaging.Queue{Type: messaging.Classic, Exclusive: true},
				[]messaging.Binding{{Source: c.exchange, Key: c.binding}}, mux.Handler(),
				messaging.OnSubscribe(func() { subscribed <- struct{}{} }))
			require.NoError(t, err)
			next(t, subscribed)
			if c.other != c.key {
				require.NoError(t, ch.PublishWithContext(t.Context(), c.exchange, c.other, false, false, plainText("not for us")))
			}
			require.NoError(t, ch.PublishWithContext(t.Context(), c.exchange, c.key, false, false, plainText("run for it")))
			require.Equal(t, "run for it", next(t, got))

			q, err := ch.QueueDeclare("", false, false, true, false, nil)
			require.NoError(t, err)
			require.NoError(t, ch.QueueBind(q.Name, c.binding, c.exchange, false, nil))
			logs, err := ch.ConsumeWithContext(t.Context(), q.Name, "", true, false, false, false, nil)
			require.NoError(t, err)
			ours(t, conn, messaging.Route{Exchange: c.exchange, Key: c.key}, "run as well")
			require.Equal(t, "run as well", body(t, logs))
		})
	}
}

var shout = messaging.Procedure[string, string]{Route: messaging.Route{Key: "rpc_queue"}, Request: text, Reply: text}

func rpcQueue(t *testing.T, ch *amqp.Channel) {
	t.Helper()
	_, err := ch.QueueDeclare("rpc_queue", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.Qos(1, 0, false))
}

// Tutorial 6, RPC, with their server: its answer has a correlation id and nothing else.
func TestTutorialRPCServer(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	rpcQueue(t, ch)
	requests, err := ch.ConsumeWithContext(t.Context(), "rpc_queue", "", false, false, false, false, nil)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		for d := range requests {
			answer := plainText(strings.ToUpper(string(d.Body)))
			answer.CorrelationId = d.CorrelationId
			if err := ch.PublishWithContext(t.Context(), "", d.ReplyTo, false, false, answer); err != nil {
				served <- err
				return
			}
			if err := d.Ack(false); err != nil {
				served <- err
				return
			}
		}
	}()
	caller := b.Connect(t, b.Config()).Caller()
	for _, word := range []string{"one", "two"} {
		got, err := messaging.Call(within(t, 20*time.Second), caller, shout, word)
		require.NoError(t, err)
		require.Equal(t, strings.ToUpper(word), got)
	}
	require.Empty(t, served)
}

// Tutorial 6, RPC, with their client: it knows its answer by the correlation id.
func TestTutorialRPCClient(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	rpcQueue(t, ch)
	conn := b.Connect(t, b.Config())
	_, err := conn.Consume(messaging.Queue{Name: "rpc_queue"}, messaging.Serve(publisher(t, conn), shout,
		func(_ context.Context, _ *messaging.Delivery, word string) (string, error) {
			if word == "" {
				return "", &messaging.RemoteError{Code: "empty", Message: "say something"}
			}
			return strings.ToUpper(word), nil
		}))
	require.NoError(t, err)
	replies, err := ch.QueueDeclare("", false, true, true, false, nil)
	require.NoError(t, err)
	answers, err := ch.ConsumeWithContext(t.Context(), replies.Name, "", true, false, false, false, nil)
	require.NoError(t, err)
	call := func(word, correlationID string) amqp.Delivery {
		request := plainText(word)
		request.CorrelationId, request.ReplyTo = correlationID, replies.Name
		require.NoError(t, ch.PublishWithContext(t.Context(), "", "rpc_queue", false, false, request))
		return next(t, answers)
	}
	id := uuid.NewString()
	answer := call("hello", id)
	require.Equal(t, id, answer.CorrelationId)
	require.Equal(t, "HELLO", string(answer.Body))
	require.Equal(t, "text/plain", answer.ContentType)
	require.Equal(t, "HELLO", string(call("hello", "").Body))
	answer = call("", id)
	require.Equal(t, "empty", answer.Headers[messaging.HeaderError])
	require.Equal(t, id, answer.CorrelationId)
}
