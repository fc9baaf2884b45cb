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

// All 13 basic properties, and what the broker adds, through the broker and back.
func TestPropertiesRoundTrip(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	topology := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "x", Kind: messaging.Topic}},
		Queues:    []messaging.Queue{{Name: "q", Type: messaging.Classic, MaxPriority: 10}},
		Bindings:  []messaging.Binding{{Source: "x", Destination: "q", Key: "#"}},
	}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), topology))
	config := b.Config()
	config.AppID = "tests"
	conn := b.Connect(t, config)
	sent := message(t, map[string]int{"answer": 42})
	sent.CorrelationID = "story"
	sent.Priority = 7
	sent.Expiration = time.Minute
	sent.ReplyTo = "somewhere"
	sent.ContentEncoding = "identity"
	at := time.Now().UTC().Truncate(time.Second)
	sent.Timestamp = at
	sent.Headers = map[string]any{
		"string": "text", "bool": true, "int64": int64(1 << 40), "int32": int32(7), "double": 1.5, "time": at,
		"bytes": []byte{1, 2}, "list": []any{"a", int64(1)}, "table": amqp.Table{"deep": "value"}, "nil": nil,
	}
	require.NoError(t, publisher(t, conn).Publish(within(t, 10*time.Second), messaging.Route{Exchange: "x", Key: "some.key"}, sent))

	got := make(chan *messaging.Delivery, 1)
	_, err := conn.Consume(topology.Queues[0], messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		got <- d
		return nil
	}), messaging.ConsumerTag("the-tag"))
	require.NoError(t, err)
	d := next(t, got)
	want := sent
	want.AppID, want.UserID = "tests", owner
	require.WithinDuration(t, at, d.Timestamp, 0)
	require.WithinDuration(t, at, d.Headers["time"].(time.Time), 0)
	d.Timestamp, want.Timestamp = at, at
	d.Headers["time"] = at
	want.Headers = amqp.Table(want.Headers)
	require.EqualValues(t, want.Headers, amqp.Table(d.Headers))
	d.Headers, want.Headers = nil, nil
	require.Equal(t, want, d.Message)
	require.Equal(t, "q", d.Queue)
	require.Equal(t, messaging.Route{Exchange: "x", Key: "some.key"}, messaging.Route{Exchange: d.Exchange, Key: d.Key})
	require.Equal(t, "the-tag", d.ConsumerTag)
	require.False(t, d.Redelivered)
	require.Equal(t, 1, d.Attempt)
}

// A transient message that failed once: delivery mode 1, and the second attempt of a
// classic queue, which counts no more than that.
func TestATransientMessageComesAgain(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := messaging.Queue{Name: "q", Type: messaging.Classic}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
	conn := b.Connect(t, b.Config())
	sent := message(t, "x")
	sent.Transient = true
	require.NoError(t, publisher(t, conn).Publish(within(t, 20*time.Second), messaging.Route{Key: "q"}, sent))
	d, ok, err := raw(t, b).Get("q", false)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, amqp.Transient, d.DeliveryMode)
	require.NoError(t, d.Reject(true))

	got := make(chan messaging.Delivery, 10)
	_, err = conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		got <- *d
		return nil
	}))
	require.NoError(t, err)
	again := next(t, got)
	require.Equal(t, sent.ID, again.ID)
	require.True(t, again.Transient)
	require.True(t, again.Redelivered)
	require.Equal(t, 2, again.Attempt)
}

// Every reason for which the broker dead-letters by itself.
func TestDeadLetterReasons(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	base := func(name string) messaging.Queue {
		return messaging.Queue{Name: name, Type: messaging.Quorum, DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: name}, Overflow: messaging.RejectPublish}
	}
	expired, limited := base("expired"), base("delivery_limit")
	expired.MessageTTL = 100 * time.Millisecond
	limited.Retry.Limit = 1
	rejected := base("rejected")
	full := messaging.Queue{Name: "maxlen", Type: messaging.Classic, MaxLength: 1, Overflow: messaging.DropHead, DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "maxlen"}}
	topology := messaging.Topology{Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}}}
	for _, q := range []messaging.Queue{expired, limited, rejected, full} {
		dead := messaging.Queue{Name: q.Name + ".dead", Type: messaging.Quorum, Retry: messaging.Retry{Limit: messaging.Unlimited}}
		topology.Queues = append(topology.Queues, dead, q)
		topology.Bindings = append(topology.Bindings, messaging.Binding{Source: "dead", Destination: dead.Name, Key: q.Name})
	}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), topology))
	conn := b.Connect(t, b.Config())
	ch := raw(t, b)
	for queue, provoke := range map[string]func(){
		"expired": func() {},
		"maxlen":  func() { publishTo(t, conn, "maxlen", "the next one") },
		"rejected": func() {
			d, _, err := ch.Get("rejected", false)
			require.NoError(t, err)
			require.NoError(t, d.Reject(false))
		},
		"delivery_limit": func() {
			for range 2 {
				messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
					d, ok, err := ch.Get("delivery_limit", false)
					require.NoError(t, err)
					if ok {
						require.NoError(t, d.Reject(true))
					}
					return ok, "empty"
				})
			}
		},
	} {
		sent := publishTo(t, conn, queue, "x")
		provoke()
		got := make(chan *messaging.Delivery, 1)
		consumer, err := conn.Consume(messaging.Queue{Name: queue + ".dead", Type: messaging.Quorum}, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			got <- d
			return nil
		}))
		require.NoError(t, err)
		d := next(t, got)
		require.Equal(t, sent.ID, d.ID, queue)
		require.Equal(t, []messaging.Death{{Queue: queue, Reason: queue, Count: 1}}, d.Deaths)
		require.NoError(t, consumer.Drain(within(t, 5*time.Second)))
	}
}
