package messaging_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// queueSetting is a virtual host that has a queue q with a setting, and q.dead.
type queueSetting struct {
	*messagingtest.BrokerInfo
	conn *messaging.Conn
	ch   *amqp.Channel
}

// send publishes a text to the queue q.
func (b queueSetting) send(t *testing.T, text string) error {
	t.Helper()
	m := message(t, "")
	m.Body = []byte(text)
	return publisher(t, b.conn).Publish(within(t, 20*time.Second), messaging.Route{Key: "q"}, m)
}

// expires waits until the queue q is gone. It does not declare it: a passive declare counts
// as use of the queue.
func expires(t *testing.T, b queueSetting) {
	t.Helper()
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		var queues []struct{ Name string }
		b.Management(t, http.MethodGet, "/api/queues/"+b.VHost+"?disable_stats=true", nil, &queues)
		return len(queues) == 1, fmt.Sprint(queues)
	})
}

// Settings that no other test uses: each has the effect that its name says.
func TestQueueSettings(t *testing.T) {
	t.Parallel()
	dead := &messaging.DeadLetter{Exchange: "dead", Key: "q"}
	for _, c := range []struct {
		name    string
		queue   messaging.Queue
		observe func(t *testing.T, b queueSetting)
	}{
		{"a classic queue expires", messaging.Queue{Type: messaging.Classic, Expires: 100 * time.Millisecond}, expires},
		{"a quorum queue expires", messaging.Queue{Type: messaging.Quorum, Expires: 100 * time.Millisecond}, expires},
		{"an auto-delete queue goes with its last consumer", messaging.Queue{Type: messaging.Classic, AutoDelete: true}, func(t *testing.T, b queueSetting) {
			handled := make(chan struct{}, 1)
			consumer, err := b.conn.Consume(messaging.Queue{Name: "q", Type: messaging.Classic}, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
				handled <- struct{}{}
				return nil
			}))
			require.NoError(t, err)
			require.NoError(t, b.send(t, "x"))
			next(t, handled)
			require.NoError(t, consumer.Drain(within(t, 20*time.Second)))
			expires(t, b)
		}},
		{"a bound in bytes", messaging.Queue{Type: messaging.Classic, MaxLengthBytes: 10}, func(t *testing.T, b queueSetting) {
			require.NoError(t, b.send(t, "8 bytes."))
			require.NoError(t, b.send(t, "8 more.."))
			require.Equal(t, "8 more..", string(get(t, b.ch, "q").Body))
		}},
		{"drop-head on a quorum queue", messaging.Queue{Type: messaging.Quorum, MaxLength: 1, Overflow: messaging.DropHead}, func(t *testing.T, b queueSetting) {
			require.NoError(t, b.send(t, "old"))
			require.NoError(t, b.send(t, "new"))
			require.Equal(t, "new", string(get(t, b.ch, "q").Body))
		}},
		{"reject-publish", messaging.Queue{Type: messaging.Classic, MaxLength: 1, Overflow: messaging.RejectPublish}, func(t *testing.T, b queueSetting) {
			require.NoError(t, b.send(t, "old"))
			require.ErrorIs(t, b.send(t, "new"), messaging.ErrNacked)
			require.Equal(t, "old", string(get(t, b.ch, "q").Body))
		}},
		{"reject-publish on a quorum queue", messaging.Queue{Type: messaging.Quorum, MaxLength: 1, Overflow: messaging.RejectPublish}, func(t *testing.T, b queueSetting) {
			require.NoError(t, b.send(t, "first"))
			messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { // it accepts a few more before it notices
				err := b.send(t, "more")
				if err != nil {
					require.ErrorIs(t, err, messaging.ErrNacked)
				}
				return err != nil, "everything is taken"
			})
		}},
		{"reject-publish-dlx", messaging.Queue{Type: messaging.Classic, MaxLength: 1, Overflow: messaging.RejectPublishDLX, DeadLetter: dead}, func(t *testing.T, b queueSetting) {
			require.NoError(t, b.send(t, "old"))
			require.ErrorIs(t, b.send(t, "new"), messaging.ErrNacked)
			d := get(t, b.ch, "q.dead")
			require.Equal(t, "new", string(d.Body))
			require.Equal(t, "maxlen", d.Headers["x-first-death-reason"])
			require.Equal(t, "old", string(get(t, b.ch, "q").Body))
		}},
		{"dead letters at most once", messaging.Queue{
			Type: messaging.Quorum, MessageTTL: 100 * time.Millisecond, DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "q", AtMostOnce: true},
		}, func(t *testing.T, b queueSetting) {
			require.NoError(t, b.ch.QueueUnbind("q.dead", "q", "dead", nil))
			require.NoError(t, b.send(t, "x"))
			messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { // at least once, it would wait here: TestDeadLettersAreAtLeastOnce
				return b.Unsettled(t, "q") == 0, "still in its queue"
			})
		}},
		{"a leader of a quorum queue", messaging.Queue{Type: messaging.Quorum, LeaderLocator: messaging.Balanced}, nil},
		{"a leader of a stream", messaging.Queue{Type: messaging.Stream, LeaderLocator: messaging.Balanced, MaxAge: time.Hour, MaxLengthBytes: 1 << 30}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			info := messagingtest.Broker(t)
			c.queue.Name = "q"
			topology := messaging.Topology{
				Exchanges: []messaging.Exchange{{Name: "dead", Kind: messaging.Direct}},
				Queues:    []messaging.Queue{{Name: "q.dead", Type: messaging.Quorum}, c.queue},
				Bindings:  []messaging.Binding{{Source: "dead", Destination: "q.dead", Key: "q"}},
			}
			if c.observe == nil { // with one node only the policy can be checked
				apply(t, info, topology)
				return
			}
			require.NoError(t, messaging.Apply(within(t, 30*time.Second), info.Admin(), topology))
			c.observe(t, queueSetting{info, info.Connect(t, info.Config()), raw(t, info)})
		})
	}
}

func TestExchangeSettings(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	apply(t, b, messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "outer", Kind: messaging.Fanout}, {Name: "inner", Kind: messaging.Fanout, Internal: true, AutoDelete: true}},
		Queues:    []messaging.Queue{{Name: "q", Type: messaging.Quorum}},
		Bindings:  []messaging.Binding{{Source: "outer", Destination: "inner", ToExchange: true}, {Source: "inner", Destination: "q"}},
	})
	p := publisher(t, b.Connect(t, b.Config()))
	publish := func(exchange string) (messaging.Message, error) {
		m := message(t, "x")
		return m, p.Publish(within(t, 20*time.Second), messaging.Route{Exchange: exchange}, m)
	}
	sent, err := publish("outer")
	require.NoError(t, err)
	ch := raw(t, b)
	require.Equal(t, sent.ID, get(t, ch, "q").MessageId)
	_, err = publish("inner")
	require.ErrorIs(t, err, messaging.ErrRefused, "an internal exchange")

	require.NoError(t, ch.QueueUnbind("q", "", "inner", nil))
	_, err = publish("outer")
	require.ErrorIs(t, err, messaging.ErrUnroutable)
	var refused *amqp.Error
	require.ErrorAs(t, ch.ExchangeDeclarePassive("inner", "fanout", true, true, true, false, nil), &refused)
	require.Equal(t, amqp.NotFound, refused.Code, "an auto-delete exchange without bindings")
}
