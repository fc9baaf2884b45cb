package messaging_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

const owner = "admin" // the user that tests connect as

var work = messaging.MessageType{Name: "work.v1", Owner: owner}

// raw gives a channel of the client library, to prepare and to look.
func raw(t *testing.T, b *messagingtest.BrokerInfo) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(b.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(t, err)
	return ch
}

// declare makes a quorum queue with a dead-letter queue behind dead.letters.
func declare(t *testing.T, ch *amqp.Channel, name string, limit int) messaging.Queue {
	t.Helper()
	require.NoError(t, ch.ExchangeDeclare("dead.letters", "direct", true, false, false, false, nil))
	_, err := ch.QueueDeclare(name+".dead", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind(name+".dead", name, "dead.letters", false, nil))
	_, err = ch.QueueDeclare(name, true, false, false, false, amqp.Table{
		"x-queue-type": "quorum", "x-delivery-limit": limit, "x-overflow": "reject-publish",
		"x-dead-letter-exchange": "dead.letters", "x-dead-letter-routing-key": name, "x-dead-letter-strategy": "at-least-once",
	})
	require.NoError(t, err)
	return messaging.Queue{
		Name: name, Type: messaging.Quorum, Retry: messaging.Retry{Limit: limit}, Overflow: messaging.RejectPublish,
		DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters", Key: name},
	}
}

// get waits for one message of a queue and takes it out.
func get(t *testing.T, ch *amqp.Channel, queue string) amqp.Delivery {
	t.Helper()
	var d amqp.Delivery
	messagingtest.Eventually(t, 15*time.Second, func() (bool, string) {
		got, ok, err := ch.Get(queue, true)
		require.NoError(t, err)
		d = got
		return ok, queue + " is empty"
	})
	return d
}

func message(t *testing.T, body any) messaging.Message {
	t.Helper()
	m, err := messaging.NewMessage(work, body)
	require.NoError(t, err)
	return m
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// next takes what a handler has sent, and fails the test when nothing comes.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-within(t, time.Minute).Done():
		t.Fatal("nothing has come for a minute")
		panic("not reached")
	}
}

func publisher(t *testing.T, conn *messaging.Conn, opts ...messaging.PublisherOption) *messaging.Publisher {
	t.Helper()
	p, err := conn.Publisher(opts...)
	require.NoError(t, err)
	return p
}

// onSettle is an observer of verdicts.
type onSettle func(e messaging.SettleEvent)

func (f onSettle) OnSettle(e messaging.SettleEvent) { f(e) }

// onConfirm is an observer of outcomes.
type onConfirm func(e messaging.ConfirmEvent)

func (f onConfirm) OnConfirm(e messaging.ConfirmEvent) { f(e) }

func publishTo(t *testing.T, conn *messaging.Conn, queue string, body any) messaging.Message {
	t.Helper()
	m := message(t, body)
	p := publisher(t, conn)
	require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: queue}, m))
	require.NoError(t, p.Close(within(t, 5*time.Second)))
	return m
}

// empty waits until a queue has nothing left, also not in the hands of a consumer.
func empty(t *testing.T, b *messagingtest.BrokerInfo, queue string) {
	t.Helper()
	messagingtest.Eventually(t, 15*time.Second, func() (bool, string) {
		n := b.Unsettled(t, queue)
		return n == 0, fmt.Sprintf("%d are left in %s", n, queue)
	})
}
