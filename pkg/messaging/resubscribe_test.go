package messaging_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// channelOf is the broker's process of the one channel on which a queue is consumed.
func channelOf(t *testing.T, b *messagingtest.BrokerInfo, queue string) string {
	t.Helper()
	out := b.Exec(t, "rabbitmqctl", "-q", "-p", b.VHost, "list_consumers", "--no-table-headers", "queue_name", "channel_pid")
	var channels []string
	for line := range strings.Lines(out) {
		if name, pid, _ := strings.Cut(strings.TrimSpace(line), "\t"); name == queue {
			channels = append(channels, pid)
		}
	}
	require.Len(t, channels, 1, "consumers of %q: %s", queue, out)
	return channels[0]
}

func isReady(c *messaging.Consumer, want bool) func() (bool, string) {
	return func() (bool, string) {
		err := c.Ready()
		return (err == nil) == want, fmt.Sprintf("the consumer's state is %v", err)
	}
}

// oneHeld is a consumer of "jobs" whose handler keeps its first message, whatever
// happens to its context, until it is released.
type oneHeld struct {
	*messaging.Consumer
	conn      *messaging.Conn
	contexts  chan context.Context
	seen      chan *messaging.Delivery
	release   chan struct{}
	verdicts  chan messaging.Verdict
	subscribe chan struct{}
}

func holdOne(t *testing.T, b *messagingtest.BrokerInfo, queue messaging.Queue) *oneHeld {
	t.Helper()
	h := &oneHeld{
		contexts: make(chan context.Context, 10), seen: make(chan *messaging.Delivery, 10), release: make(chan struct{}),
		verdicts: make(chan messaging.Verdict, 10), subscribe: make(chan struct{}, 10),
	}
	config := b.Config()
	config.Observers = []messaging.Observer{onSettle(func(e messaging.SettleEvent) { h.verdicts <- e.Verdict })}
	h.conn = b.Connect(t, config)
	var err error
	h.Consumer, err = h.conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		h.contexts <- ctx
		h.seen <- d
		<-h.release
		return nil
	}), messaging.OnSubscribe(func() { h.subscribe <- struct{}{} }))
	require.NoError(t, err)
	next(t, h.subscribe)
	publishTo(t, h.conn, queue.Name, "x")
	return h
}

// lost waits for the end of the subscription that the held message came by, which
// the handler hears of, releases the handler and waits for the next subscription.
func (h *oneHeld) lost(t *testing.T) {
	t.Helper()
	ctx := next(t, h.contexts)
	next(t, ctx.Done())
	require.ErrorIs(t, context.Cause(ctx), messaging.ErrConnectionLost)
	require.ErrorIs(t, h.Ready(), messaging.ErrConnectionLost)
	require.Empty(t, h.subscribe, "the next subscription waits for the handler")
	close(h.release)
	require.Equal(t, messaging.Stale, next(t, h.verdicts), "not acknowledged on another channel")
	next(t, h.subscribe)
	messagingtest.Eventually(t, 10*time.Second, isReady(h.Consumer, true))
}

// A handler that is slower than the queue's consumer timeout: the broker cancels the
// consumer and delivers the message again, without counting an attempt. The
// consumer does not use that channel again.
func TestConsumerTimeout(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := messaging.Queue{Name: "jobs", Type: messaging.Quorum, ConsumerTimeout: time.Second}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{queue}}))
	queue.ConsumerTimeout = 0 // left out of the description, or Consume would refuse it
	h := holdOne(t, b, queue)
	require.Equal(t, 1, next(t, h.seen).Attempt)
	before := channelOf(t, b, "jobs")
	h.lost(t)

	again := next(t, h.seen)
	require.Equal(t, 1, again.Attempt, "not an attempt")
	require.Equal(t, 1, again.Acquired)
	require.Equal(t, messaging.Acked, next(t, h.verdicts))
	require.NotEqual(t, before, channelOf(t, b, "jobs"), "another channel")
}

// The broker closes a channel and leaves its connection alone: the consumer beside it
// does not notice.
func TestAChannelThatIsClosedAlone(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	h := holdOne(t, b, declare(t, ch, "jobs", 20))
	beside := make(chan struct{}, 10)
	_, err := h.conn.Consume(declare(t, ch, "others", 20), messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil }),
		messaging.OnSubscribe(func() { beside <- struct{}{} }))
	require.NoError(t, err)
	next(t, beside)
	require.Equal(t, 1, next(t, h.seen).Attempt)
	before := channelOf(t, b, "jobs")
	// As if the client had acknowledged what it never got: 406.
	b.Exec(t, "rabbitmqctl", "eval", fmt.Sprintf(`rabbit_channel_common:do(rabbit_misc:string_to_pid("%s"), {'basic.ack', 999, false}).`, before))
	h.lost(t)

	again := next(t, h.seen)
	require.Equal(t, 2, again.Attempt, "the end of a channel counts as one")
	require.Equal(t, messaging.Acked, next(t, h.verdicts))
	require.NotEqual(t, before, channelOf(t, b, "jobs"), "another channel")
	require.Empty(t, beside, "the same connection")
}

// A listener whose connection is gone, which the broker has not noticed: its queue
// is still there, and locked. It must not stand in the way of a new one.
func TestListenBesideAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	require.NoError(t, raw(t, b).ExchangeDeclare("news", "fanout", true, false, false, false, nil))
	first, second := messagingtest.NewProxy(t, b), messagingtest.NewProxy(t, b)
	second.Cut()
	config := b.Config()
	config.URLs = []string{first.URL, second.URL}
	config.Heartbeat = 5 * time.Minute // or the broker would notice in time
	conn := b.Connect(t, config)
	subscribed, heard := make(chan struct{}, 10), make(chan string, 10)
	_, err := conn.Listen(messaging.Queue{Type: messaging.Classic, Exclusive: true}, []messaging.Binding{{Source: "news"}},
		messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			heard <- string(d.Body)
			return nil
		}), messaging.OnSubscribe(func() { subscribed <- struct{}{} }))
	require.NoError(t, err)
	next(t, subscribed)

	second.Restore()
	first.Leave()
	next(t, subscribed)
	queues := strings.Fields(b.Exec(t, "rabbitmqctl", "-q", "-p", b.VHost, "list_queues", "--no-table-headers", "name"))
	require.Len(t, queues, 2, "the broker keeps the one of before")
	say := publisher(t, b.Connect(t, b.Config()))
	require.NoError(t, say.Publish(within(t, 20*time.Second), messaging.Route{Exchange: "news"}, message(t, "hello")))
	require.Equal(t, `"hello"`, next(t, heard))
}
