package messaging_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// brokenError has methods that panic; as a nil pointer it is the classic mistake.
type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }

type panics struct{ in string }

func (e panics) Error() string {
	if e.in == "Error" {
		panic("in Error")
	}
	return "an error that panics in " + e.in
}

func (e panics) Unwrap() error {
	if e.in == "Unwrap" {
		panic("in Unwrap")
	}
	return nil
}

func (e panics) Is(error) bool {
	if e.in == "Is" {
		panic("in Is")
	}
	return false
}

func (e panics) As(any) bool {
	if e.in == "As" {
		panic("in As")
	}
	return false
}

type endless struct{}

func (e *endless) Error() string { return "wraps itself" }
func (e *endless) Unwrap() error { return e }

// Whatever user code does instead of returning a good error, the message has had an
// attempt, is parked after the last one, and the consumer goes on with the next.
func TestBrokenUserCodeIsAnAttempt(t *testing.T) {
	t.Parallel()
	var none *brokenError
	cases := map[string]struct {
		handle func() error
		reason string
	}{
		"Goexit":                      {func() error { runtime.Goexit(); return nil }, "handler ended its goroutine (runtime.Goexit)"},
		"a panic":                     {func() error { panic("oops") }, "handler panicked: oops"},
		"a panic with nil":            {func() error { panic(nil) }, "handler panicked: panic called with nil argument"},
		"a panic with a broken error": {func() error { panic(panics{"Error"}) }, "handler panicked: %!v(PANIC=Error method: in Error)"},
		"a nil pointer as an error":   {func() error { return none }, "<nil>"},
		"a permanent nil pointer":     {func() error { return messaging.Permanent(none) }, ""},
		"an Error that panics":        {func() error { return panics{"Error"} }, "%!v(PANIC=Error method: in Error)"},
		"an Unwrap that panics":       {func() error { return panics{"Unwrap"} }, "handler panicked: in Unwrap"},
		"an Is that panics":           {func() error { return panics{"Is"} }, "handler panicked: in Is"},
		"an As that panics":           {func() error { return panics{"As"} }, "handler panicked: in As"},
		"an error that wraps itself":  {func() error { return &endless{} }, "wraps itself"},
		"an error that is not UTF-8":  {func() error { return errors.New("bad \xff text") }, "bad \uFFFD text"},
	}
	b := messagingtest.Broker(t)
	conn := b.Connect(t, b.Config())
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ch := raw(t, b)
			queue := declare(t, ch, "work "+name, 1)
			handled := make(chan string, 10)
			consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				if string(d.Body) == `"bad"` {
					return c.handle()
				}
				handled <- d.ID
				return nil
			}))
			require.NoError(t, err)
			bad := publishTo(t, conn, queue.Name, "bad")
			good := publishTo(t, conn, queue.Name, "good")
			require.Equal(t, good.ID, next(t, handled))
			dead := get(t, ch, queue.Name+".dead")
			require.Equal(t, bad.ID, dead.MessageId)
			if c.reason != "" {
				require.Equal(t, c.reason, dead.Headers[messaging.HeaderDeadReason])
				require.EqualValues(t, 2, dead.Headers[messaging.HeaderDeadAttempts])
			}
			require.NoError(t, consumer.Drain(within(t, 10*time.Second)))
			empty(t, b, queue.Name)
		})
	}
}

// A worker is replaced each time its handler ends the goroutine.
func TestGoexitReplacesTheWorker(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(q *messaging.Queue){
		"quorum":                 func(*messaging.Queue) {},
		"no description":         func(q *messaging.Queue) { *q = messaging.Queue{Name: q.Name} },
		"single active consumer": func(q *messaging.Queue) { q.SingleActiveConsumer = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := messagingtest.Broker(t)
			conn := b.Connect(t, b.Config())
			queue := declare(t, raw(t, b), "jobs", 20)
			change(&queue)
			concurrency := 4
			if queue.SingleActiveConsumer {
				concurrency = 1
			}
			var calls atomic.Int32
			handled := make(chan string, 100)
			consumer, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
				if calls.Add(1)%3 > 0 {
					runtime.Goexit()
				}
				handled <- d.ID
				return nil
			}), messaging.Concurrency(concurrency))
			require.NoError(t, err)
			want := map[string]bool{}
			for i := range 12 {
				want[publishTo(t, conn, "jobs", i).ID] = true
			}
			for len(want) > 0 {
				delete(want, next(t, handled))
			}
			require.NoError(t, consumer.Drain(within(t, 20*time.Second)))
			empty(t, b, "jobs")
		})
	}
}

// A brokenObserver panics, or ends the goroutine that calls it, in every method.
type brokenObserver struct{ told atomic.Int32 }

func (r *brokenObserver) fail() {
	if r.told.Add(1)%2 == 0 {
		panic("brokenObserver")
	}
	runtime.Goexit()
}

func (r *brokenObserver) OnPublish(context.Context, messaging.PublishEvent) func(messaging.ConfirmEvent) {
	if r.told.Add(1)%2 == 0 {
		panic("brokenObserver")
	}
	return func(messaging.ConfirmEvent) { panic("brokenObserver") }
}

func (*brokenObserver) OnConfirm(messaging.ConfirmEvent)         { panic("brokenObserver") }
func (r *brokenObserver) OnConnect(messaging.ConnectEvent)       { r.fail() }
func (r *brokenObserver) OnDisconnect(messaging.DisconnectEvent) { r.fail() }
func (r *brokenObserver) OnSubscribe(messaging.SubscribeEvent)   { r.fail() }
func (r *brokenObserver) OnCancel(messaging.CancelEvent)         { r.fail() }
func (*brokenObserver) OnDeliver(messaging.DeliverEvent)         { panic("brokenObserver") }
func (r *brokenObserver) OnSettle(messaging.SettleEvent)         { r.fail() }

// Observers are user code too.
func TestObserversThatPanic(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	queue := declare(t, raw(t, b), "jobs", 20)
	config := b.Config()
	config.Observers = []messaging.Observer{&brokenObserver{}}
	conn := b.Connect(t, config)
	handled := make(chan string, 10)
	subscribed := 0
	_, err := conn.Consume(queue, messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
		handled <- d.ID
		return nil
	}), messaging.OnSubscribe(func() {
		if subscribed++; subscribed == 1 {
			panic("subscribed")
		}
		runtime.Goexit()
	}))
	require.NoError(t, err)
	for round := range 2 {
		for i := range 3 {
			require.Equal(t, publishTo(t, conn, "jobs", i).ID, next(t, handled))
		}
		if round == 0 {
			b.CloseAllConnections(t)
		}
	}
	empty(t, b, "jobs")
}

// A procedure that returns no good error, or none at all, answers all the same, once.
func TestBrokenProceduresAnswer(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declareCalls(t, raw(t, b))
	conn := b.Connect(t, b.Config())
	var calls atomic.Int32
	_, err := conn.Consume(messaging.Queue{Name: "calls", Type: messaging.Classic}, messaging.Serve(publisher(t, conn), upper,
		func(_ context.Context, _ *messaging.Delivery, what string) (string, error) {
			calls.Add(1)
			switch what {
			case "a nil remote error":
				var refused *messaging.RemoteError
				return "", refused
			case "a nil pointer":
				var none *brokenError
				return "", none
			case "As panics":
				return "", panics{"As"}
			case "unavailable":
				return "", messaging.Unavailable(errors.New("no database"))
			default:
				runtime.Goexit()
				return "", nil
			}
		}))
	require.NoError(t, err)
	for i, what := range []string{"a nil remote error", "a nil pointer", "As panics", "unavailable", "Goexit"} {
		_, err := messaging.Call(within(t, 20*time.Second), conn.Caller(), upper, what)
		var remote *messaging.RemoteError
		require.ErrorAs(t, err, &remote, what)
		require.Equal(t, messaging.CodeUnavailable, remote.Code)
		require.EqualValues(t, i+1, calls.Load())
	}
}
