package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// eventLog is an observer that notes all events, by connection, exchange or queue.
type eventLog struct {
	mu    sync.Mutex
	about map[string][]string
}

func newEventLog() *eventLog { return &eventLog{about: map[string][]string{}} }

func (d *eventLog) note(about, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.about[about] = append(d.about[about], fmt.Sprintf(format, args...))
}

// word is what an error is about. The text of a lost connection is not always the same.
func word(err error) string {
	switch {
	case err == nil:
		return "fine"
	case errors.Is(err, messaging.ErrClosed):
		return "closed"
	case errors.Is(err, messaging.ErrUnroutable):
		return "unroutable"
	default:
		return "failed"
	}
}

func (d *eventLog) OnConnect(e messaging.ConnectEvent) {
	d.note(e.Connection, "connect: %s, version %t", word(e.Err), e.BrokerVersion != "")
}

func (d *eventLog) OnDisconnect(e messaging.DisconnectEvent) {
	d.note(e.Connection, "disconnect: %s, after a while %t", word(e.Err), e.Lasted > 0)
}

func (d *eventLog) OnSubscribe(e messaging.SubscribeEvent) {
	d.note(e.Queue, "subscribe: tag %q", e.ConsumerTag)
}

func (d *eventLog) OnCancel(e messaging.CancelEvent) {
	d.note(e.Queue, "cancel: tag %q, %s", e.ConsumerTag, word(e.Err))
}

func (d *eventLog) OnPublish(_ context.Context, e messaging.PublishEvent) func(messaging.ConfirmEvent) {
	d.note(e.Route.Key, "publish: %s, call %t", e.Message.Body, e.Call)
	return nil
}

func (d *eventLog) OnConfirm(e messaging.ConfirmEvent) {
	d.note(e.Route.Key, "confirm: %s, %s, id %t, took %t", word(e.Err), e.Type, e.MessageID != "", e.Took > 0)
}

func (d *eventLog) OnDeliver(e messaging.DeliverEvent) {
	d.note(e.Delivery.Queue, "deliver: %s, attempt %d", e.Delivery.Body, e.Delivery.Attempt)
}

func (d *eventLog) OnSettle(e messaging.SettleEvent) {
	d.note(e.Delivery.Queue, "settle: %s, %s, %v, took %t", e.Delivery.Body, e.Verdict, e.Err, e.Took > 0)
}

// requireEvents waits until exactly these events are noted.
func (d *eventLog) requireEvents(t *testing.T, about string, want ...string) {
	t.Helper()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Equal(want, d.about[about]), fmt.Sprintf("about %q: %q", about, d.about[about])
	})
}

// Observers get the events of a connection, a subscription and a message, each in order.
func TestObserversGetAllEvents(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 20)
	proxy := messagingtest.NewProxy(t, b)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	d := newEventLog()
	config.Observers = []messaging.Observer{d}
	conn := b.Connect(t, config)
	d.requireEvents(t, "publish", "connect: fine, version true")

	p := publisher(t, conn)
	send := func(body any) {
		require.NoError(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "jobs"}, message(t, body)))
	}
	send(1)
	published := []string{"publish: 1, call false", "confirm: fine, work.v1, id true, took true"}
	d.requireEvents(t, "jobs", published...)
	require.ErrorIs(t, p.Publish(within(t, 20*time.Second), messaging.Route{Key: "nowhere"}, message(t, 2)), messaging.ErrUnroutable)
	d.requireEvents(t, "nowhere", "publish: 2, call false", "confirm: unroutable, work.v1, id true, took true")

	first := true
	consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		if first {
			first = false
			return errors.New("not now")
		}
		return nil
	}), messaging.ConsumerTag("me"))
	require.NoError(t, err)
	told := append(published, `subscribe: tag "me"`,
		"deliver: 1, attempt 1", "settle: 1, rejected, not now, took true",
		"deliver: 1, attempt 2", "settle: 1, acked, <nil>, took true")
	d.requireEvents(t, "jobs", told...)

	proxy.Cut()
	told = append(told, `cancel: tag "me", failed`)
	d.requireEvents(t, "jobs", told...)
	proxy.Restore()
	told = append(told, `subscribe: tag "me"`)
	d.requireEvents(t, "jobs", told...)
	require.NoError(t, consumer.Drain(within(t, 20*time.Second)))
	d.requireEvents(t, "jobs", append(told, `cancel: tag "me", fine`)...)

	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		err := conn.Ready()
		return err == nil, fmt.Sprint("the connection to publish is not back: ", err)
	})
	require.NoError(t, conn.Close(within(t, 20*time.Second)))
	for _, connection := range []string{"publish", "consume jobs"} {
		d.mu.Lock()
		noted := slices.DeleteFunc(d.about[connection], func(line string) bool { return line == "connect: failed, version false" })
		d.mu.Unlock()
		require.Equal(t, []string{
			"connect: fine, version true", "disconnect: failed, after a while true",
			"connect: fine, version true", "disconnect: closed, after a while true",
		}, noted, connection)
	}
}

// A stream's reader subscribes too, and a call is a publish whose outcome is the answer.
func TestObserversGetEventsOfStreamsAndCalls(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declareCalls(t, raw(t, b))
	stream := messaging.Queue{Name: "log", Type: messaging.Stream}
	require.NoError(t, messaging.Apply(within(t, 30*time.Second), b.Admin(), messaging.Topology{Queues: []messaging.Queue{stream}}))
	config := b.Config()
	d := newEventLog()
	config.Observers = []messaging.Observer{d}
	conn := b.Connect(t, config)
	publishTo(t, b.Connect(t, b.Config()), "log", "x")
	for _, err := range conn.Stream(within(t, 20*time.Second), stream, messaging.FirstOffset()) {
		require.NoError(t, err)
		d.requireEvents(t, "log", `subscribe: tag ""`)
		break
	}
	d.requireEvents(t, "log", `subscribe: tag ""`, `cancel: tag "", fine`)

	_, err := b.Connect(t, b.Config()).Consume(messaging.Queue{Name: "calls", Type: messaging.Classic},
		messaging.Serve(publisher(t, conn), upper, func(context.Context, *messaging.Delivery, string) (string, error) {
			return "", &messaging.RemoteError{Code: "no"}
		}))
	require.NoError(t, err)
	_, err = messaging.Call(within(t, 20*time.Second), conn.Caller(), upper, "x")
	require.ErrorContains(t, err, "no")
	d.requireEvents(t, upper.Route.Key, `publish: "x", call true`, "confirm: fine, "+upper.Request.Name+", id true, took true")
}

// onOverdue is an observer of handlers that ignore their context.
type onOverdue func(e messaging.OverdueEvent)

func (f onOverdue) OnOverdue(e messaging.OverdueEvent) { f(e) }

// A handler that ignores its context is reported while it runs, and a drain that waits for it
// names its message.
func TestAHandlerThatOutlivesItsDeadline(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declare(t, raw(t, b), "jobs", 20)
	core, logs := observer.New(zap.WarnLevel)
	config := b.Config()
	config.Logger = zap.New(core)
	overdue, release := make(chan messaging.OverdueEvent, 10), make(chan struct{})
	config.Observers = []messaging.Observer{onOverdue(func(e messaging.OverdueEvent) {
		overdue <- e
		panic("and goes on")
	})}
	conn := b.Connect(t, config)
	handled := make(chan error, 10)
	consumer, err := conn.Consume(messaging.Queue{Name: "jobs"}, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
		<-release
		handled <- ctx.Err()
		return nil
	}), messaging.HandlerTimeout(100*time.Millisecond))
	require.NoError(t, err)
	sent := publishTo(t, conn, "jobs", "x")

	e := next(t, overdue)
	require.Greater(t, e.Running, time.Second)
	e.Running = 0
	require.Equal(t, messaging.OverdueEvent{Queue: "jobs", MessageID: sent.ID, Type: "work.v1", Attempt: 1, Timeout: 100 * time.Millisecond}, e)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = consumer.Drain(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "still being handled: "+sent.ID)

	close(release)
	require.ErrorIs(t, next(t, handled), context.DeadlineExceeded)
	next(t, consumer.Done())
	require.Empty(t, overdue)
	told := logs.FilterMessage("handler has not returned although its deadline has passed").All()
	require.Len(t, told, 1)
	require.Equal(t, sent.ID, told[0].ContextMap()["message_id"])
	require.Equal(t, 1, logs.FilterMessage("observer panicked").Len())
}

// A handler without a deadline has as long as it takes.
func TestNoHandlerTimeout(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	queue := declare(t, raw(t, b), "jobs", 20)
	deadlines := make(chan bool, 1)
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
		_, ok := ctx.Deadline()
		deadlines <- ok
		return nil
	}), messaging.HandlerTimeout(0))
	require.NoError(t, err)
	publishTo(t, conn, "jobs", "x")
	require.False(t, next(t, deadlines))
	empty(t, b, "jobs")
}
