package messaging_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Every call refuses invalid descriptions and options before anything is sent, and names the
// field. A consumer of the same Conn is not affected.
func TestInvalidOptionsAreRefused(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	jobs := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	listener := messaging.Queue{Type: messaging.Classic, Exclusive: true}
	stream := messaging.Queue{Name: "log", Type: messaging.Stream}
	core, logs := observer.New(zap.WarnLevel)
	config := b.Config()
	config.Logger = zap.New(core)
	conn := b.Connect(t, config)
	handled := make(chan string, 10)
	handler := messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		handled <- d.ID
		return nil
	})
	subscribed := make(chan struct{}, 100)
	_, err := conn.Consume(jobs, handler, messaging.OnSubscribe(func() { subscribed <- struct{}{} }))
	require.NoError(t, err)
	next(t, subscribed)

	long := strings.Repeat("x", 256)
	consume := func(q messaging.Queue, opts ...messaging.ConsumeOption) func() error {
		return func() error { _, err := conn.Consume(q, handler, opts...); return err }
	}
	listen := func(q messaging.Queue, bindings ...messaging.Binding) func() error {
		return func() error { _, err := conn.Listen(q, bindings, handler); return err }
	}
	read := func(q messaging.Queue, from messaging.Offset, opts ...messaging.StreamOption) func() error {
		return func() error {
			for _, err := range conn.Stream(within(t, 20*time.Second), q, from, opts...) {
				return err
			}
			return nil
		}
	}
	named := func(q messaging.Queue, name string) messaging.Queue { q.Name = name; return q }
	for _, c := range []struct {
		name string
		try  func() error
		want string
	}{
		{"consume: a long name", consume(messaging.Queue{Name: long}), "Name: has 256 bytes"},
		{"consume: a name that is not UTF-8", consume(messaging.Queue{Name: "a\xff"}), "Name: is not UTF-8"},
		{"consume: a name of two lines", consume(messaging.Queue{Name: "a\nb"}), "Name: holds a control character"},
		{"consume: no name", consume(messaging.Queue{}), "Name: only an exclusive queue"},
		{"consume: an unknown type", consume(messaging.Queue{Name: "jobs", Type: "lazy"}), `Type: unknown type "lazy"`},
		{"consume: a limit that cannot be", consume(messaging.Queue{Name: "jobs", Retry: messaging.Retry{Limit: -2}}), "Retry.Limit: must be -1"},
		{"consume: delays of which one is missing", consume(messaging.Queue{Name: "jobs", Retry: messaging.Retry{MaxDelay: time.Second}}), "Retry.MinDelay: wants 1 ms <= MinDelay"},
		{"consume: for ever and a day in place", consume(messaging.Queue{Name: "jobs", Retry: messaging.Retry{InPlace: 1<<63 - 1}}), "Retry.InPlace: at most"},
		{"consume: a dead-letter exchange with a long name", consume(messaging.Queue{Name: "jobs", DeadLetter: &messaging.DeadLetter{Exchange: long, Key: "k"}}), "DeadLetter.Exchange: has 256 bytes"},
		{"consume: a dead-letter key that is not UTF-8", consume(messaging.Queue{Name: "jobs", DeadLetter: &messaging.DeadLetter{Exchange: "x", Key: "\xff"}}), "DeadLetter.Key: is not UTF-8"},
		{"consume: nobody who handles", func() error { _, err := conn.Consume(jobs, nil); return err }, "the handler is nil"},
		{"consume: a function that is not there", func() error { _, err := conn.Consume(jobs, messaging.HandlerFunc(nil)); return err }, "the handler is nil"},
		{"consume: a long tag", consume(jobs, messaging.ConsumerTag(long)), "ConsumerTag: has 256 bytes"},
		{"consume: a tag that is not UTF-8", consume(jobs, messaging.ConsumerTag("\xff")), "ConsumerTag: is not UTF-8"},
		{"consume: more ahead than there are numbers", consume(jobs, messaging.Prefetch(65_536)), "Prefetch: AMQP allows at most 65535"},
		{"consume: more at once than there are numbers", consume(jobs, messaging.Concurrency(65_536)), "Concurrency: must be from 1 to 65535"},
		{"consume: less than nothing ahead", consume(jobs, messaging.Prefetch(-1)), "Prefetch"},
		{"consume: a priority of 33 bits", consume(jobs, messaging.ConsumerPriority(1<<32)), "ConsumerPriority: must fit into 32 bits"},
		{"consume: for ever and a day", consume(jobs, messaging.HandlerTimeout(1<<63-1)), "HandlerTimeout"},
		{"consume: a tenure before it began", consume(messaging.Queue{Name: "jobs", SingleActiveConsumer: true}, messaging.Tenure(-1)), "Tenure"},
		{"listen: a long key", listen(listener, messaging.Binding{Source: "amq.topic", Key: long}), "Key: has 256 bytes"},
		{"listen: a long source", listen(listener, messaging.Binding{Source: long}), "Source: has 256 bytes"},
		{"listen: a source of two lines", listen(listener, messaging.Binding{Source: "a\r\nb"}), "Source: holds a control character"},
		{"listen: a destination", listen(listener, messaging.Binding{Source: "amq.topic", Destination: "jobs"}), "Destination: is the queue that listens"},
		{"listen: a match of times", listen(listener, messaging.Binding{Source: "amq.headers", Match: map[string]any{"x-match": "all", "at": time.Now()}}), "Match:"},
		{"listen: the broker's name", listen(named(listener, "amq.mine")), "Name: names that begin with"},
		{"listen: a queue that lives too long", listen(messaging.Queue{Type: messaging.Classic, Exclusive: true, Expires: 11 * 365 * 24 * time.Hour}), "Expires: the broker accepts at most"},
		{"listen: nobody who handles", func() error { _, err := conn.Listen(listener, nil, nil); return err }, "the handler is nil"},
		{"stream: a long name", read(named(stream, long), messaging.FirstOffset()), "Name: has 256 bytes"},
		{"stream: no name", read(named(stream, ""), messaging.FirstOffset()), "Name:"},
		{"stream: before the first", read(stream, messaging.OffsetAt(-1)), "Offset: must not be negative"},
		{"stream: a year of no calendar", read(stream, messaging.OffsetSince(time.Unix(1<<55, 0))), "Offset: the year"},
		{"stream: more ahead than there are numbers", read(stream, messaging.FirstOffset(), messaging.Credit(65_536)), "Credit: must be from 1 to 65535"},
		{"look: a long name", func() error { _, err := conn.QueueState(within(t, 20*time.Second), long); return err }, "Name: has 256 bytes"},
		{"look: no name", func() error { _, err := conn.QueueState(within(t, 20*time.Second), ""); return err }, "Name:"},
		{"look: a name that is not UTF-8", func() error { _, err := conn.QueueState(within(t, 20*time.Second), "\xff"); return err }, "Name: is not UTF-8"},
		{"publish: a long exchange", func() error {
			return publisher(t, conn).Publish(within(t, 20*time.Second), messaging.Route{Exchange: long}, message(t, "x"))
		}, "Route.Exchange: has 256 bytes"},
		{"call: a long key", func() error {
			call := messaging.Procedure[int, int]{Route: messaging.Route{Key: long}, Request: work, Reply: work}
			_, err := messaging.Call(within(t, 20*time.Second), conn.Caller(), call, 1)
			return err
		}, "Route.Key: has 256 bytes"},
	} {
		require.ErrorContains(t, c.try(), c.want, c.name)
	}
	sent := publishTo(t, conn, "jobs", "x")
	require.Equal(t, sent.ID, next(t, handled))
	require.Empty(t, subscribed, "subscribed again")
	require.Empty(t, logs.All(), "what nobody should have noticed")
}

// A description may be as short as a name, and what it says may be little.
func TestConsumeWithAnIncompleteDescription(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	conn := b.Connect(t, b.Config())
	for _, q := range []messaging.Queue{
		{Name: "jobs"},
		{Name: "jobs", Retry: messaging.Retry{Limit: 20}},
		{Name: "jobs", Type: messaging.Quorum, DeadLetter: &messaging.DeadLetter{Exchange: "dead.letters", Key: "jobs"}},
		{Name: "jobs", Retry: messaging.Retry{MinDelay: time.Second, MaxDelay: time.Second}, ConsumerTimeout: time.Hour},
	} {
		handled := make(chan string, 1)
		consumer, err := conn.Consume(q, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			handled <- d.ID
			return nil
		}), messaging.OnSubscribe(nil))
		require.NoError(t, err)
		require.Equal(t, publishTo(t, conn, "jobs", "x").ID, next(t, handled))
		require.NoError(t, consumer.Drain(within(t, 20*time.Second)))
	}
}

// Numbers that the wire has room for arrive as they are.
func TestTheLargestOptions(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	conn := b.Connect(t, b.Config())
	handled := make(chan string, 1)
	handler := messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		handled <- d.ConsumerTag
		return nil
	})
	for _, c := range []struct {
		tag      string
		priority int
	}{{"low", 1}, {strings.Repeat("é", 127), 1<<31 - 1}} {
		consumer, err := conn.Consume(messaging.Queue{Name: "jobs"}, handler, messaging.ConsumerTag(c.tag),
			messaging.ConsumerPriority(c.priority), messaging.Prefetch(65_535))
		require.NoError(t, err)
		messagingtest.Eventually(t, 20*time.Second, isReady(consumer, true))
	}
	publishTo(t, conn, "jobs", "x")
	require.Equal(t, strings.Repeat("é", 127), next(t, handled))
}

func TestStreamOffsetsOfZeroValues(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	stream := messaging.Queue{Name: "log", Type: messaging.Stream}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{stream}}))
	conn := b.Connect(t, b.Config())
	first := publishTo(t, conn, "log", "first").ID
	// The year 1 is before everything.
	for d, err := range conn.Stream(within(t, 20*time.Second), stream, messaging.OffsetSince(time.Time{})) {
		require.NoError(t, err)
		require.Equal(t, first, d.ID)
		break
	}
	// No offset is the broker's default: what comes from now on.
	read := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for d, err := range conn.Stream(ctx, stream, messaging.Offset{}) {
			if err == nil {
				read <- d.ID
			}
		}
	}()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		publishTo(t, conn, "log", "later")
		return len(read) > 0, "nothing is read"
	})
	stop()
	<-done
	for len(read) > 0 {
		require.NotEqual(t, first, <-read)
	}
}
