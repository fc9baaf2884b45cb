package messaging

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// counter observes outcomes and verdicts, and nothing else.
type counter struct{ confirms, settles int }

func (c *counter) OnConfirm(ConfirmEvent) { c.confirms++ }
func (c *counter) OnSettle(SettleEvent)   { c.settles++ }

// stamper adds a header, and counts the outcomes that it is told.
type stamper struct {
	name     string
	outcomes []error
}

func (s *stamper) OnPublish(_ context.Context, e PublishEvent) func(ConfirmEvent) {
	e.Message.Headers[s.name] = e.Call
	return func(e ConfirmEvent) { s.outcomes = append(s.outcomes, e.Err) }
}

// silent is a PublishObserver that does not want to know more.
type silent struct{}

func (silent) OnPublish(context.Context, PublishEvent) func(ConfirmEvent) { return nil }

// broken panics.
type broken struct{}

func (broken) OnPublish(context.Context, PublishEvent) func(ConfirmEvent) { panic("publish") }
func (broken) OnConfirm(ConfirmEvent)                                     { panic("confirm") }
func (broken) OnConnect(ConnectEvent)                                     { panic("connect") }

// mistaken would be told of connections, and never of verdicts.
type mistaken struct{}

func (mistaken) OnConnect(ConnectEvent) {}
func (mistaken) OnSettle(*SettleEvent)  {}

func TestObserversGetWhatTheyImplement(t *testing.T) {
	t.Parallel()
	one, two := &counter{}, &counter{}
	o := newObservers([]Observer{one, silent{}, two}, zap.NewNop())
	require.Len(t, o.confirm, 2)
	require.Len(t, o.settle, 2)
	require.Len(t, o.publish, 1)
	require.Empty(t, o.connect)
	o.confirmed(nil, ConfirmEvent{})
	o.settled(&Delivery{}, Acked, outcome{}, time.Now())
	o.connected(ConnectEvent{}) // nobody
	require.Equal(t, counter{1, 1}, *one)
	require.Equal(t, counter{1, 1}, *two)
}

func TestAnObserverThatWouldNeverBeCalled(t *testing.T) {
	t.Parallel()
	var none *counter
	for name, c := range map[string]struct {
		observers []Observer
		want      string
	}{
		"nil":                {[]Observer{nil}, "messaging: Observers: number 1 is nil"},
		"a nil pointer":      {[]Observer{silent{}, none}, "messaging: Observers: number 2 is nil"},
		"no method of these": {[]Observer{time.Second}, "messaging: Observers: number 1 is a time.Duration, which has no method of an observer"},
		"not the pointer":    {[]Observer{counter{}}, "messaging: Observers: number 1 is a messaging.counter, which has no method"},
		"another signature":  {[]Observer{mistaken{}}, "messaging: Observers: number 1 is a messaging.mistaken: its func(*messaging.SettleEvent) has the name of"},
	} {
		config := Config{URLs: []string{"amqp://localhost"}, Observers: c.observers}
		require.ErrorContains(t, config.validate(), c.want, name)
		_, err := Connect(t.Context(), config)
		require.ErrorContains(t, err, c.want, name)
	}
	require.NoError(t, checkObservers([]Observer{silent{}, &counter{}}))
}

func TestPublishObserversAddHeaders(t *testing.T) {
	t.Parallel()
	one, two := &stamper{name: "one"}, &stamper{name: "two"}
	o := newObservers([]Observer{one, silent{}, two}, zap.NewNop())
	given := Message{ID: "1", Headers: map[string]any{"mine": "stays"}}
	sent, done := o.publishing(t.Context(), Route{Key: "jobs"}, given, true)
	require.Equal(t, map[string]any{"mine": "stays"}, given.Headers, "the caller's map is its own")
	require.Equal(t, map[string]any{"mine": "stays", "one": true, "two": true}, sent.Headers)
	o.confirmed(done, ConfirmEvent{Err: ErrNacked})
	require.Equal(t, []error{ErrNacked}, one.outcomes)
	require.Equal(t, []error{ErrNacked}, two.outcomes)

	o = newObservers([]Observer{silent{}}, zap.NewNop())
	_, done = o.publishing(t.Context(), Route{}, Message{}, false)
	require.Nil(t, done, "nobody wants to know")
}

func TestAPanicOfAnObserverIsLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.ErrorLevel)
	counts, stamps := &counter{}, &stamper{name: "x"}
	o := newObservers([]Observer{broken{}, counts, stamps}, zap.New(core))
	m, done := o.publishing(t.Context(), Route{}, Message{}, false)
	require.Contains(t, m.Headers, "x")
	o.confirmed(done, ConfirmEvent{})
	o.connected(ConnectEvent{})
	require.Equal(t, 1, counts.confirms, "the others are told")
	require.Len(t, stamps.outcomes, 1)
	require.Equal(t, 3, logs.FilterMessage("observer panicked").Len())
	for _, entry := range logs.All() {
		require.Equal(t, "messaging.broken", entry.ContextMap()["observer"])
	}
}

// An observer gets only the text of a handler's error: the error itself is user code.
func TestASettleEventHasTheTextOfTheError(t *testing.T) {
	t.Parallel()
	var got []SettleEvent
	o := newObservers([]Observer{settles{&got}}, zap.NewNop())
	failed := errors.New("no such order")
	for _, err := range []error{nil, failed, Permanent(failed)} {
		o.settled(&Delivery{}, Rejected, classify(err), time.Now())
	}
	require.NoError(t, got[0].Err)
	require.EqualError(t, got[1].Err, "no such order")
	require.NotErrorIs(t, got[1].Err, failed)
	require.False(t, IsPermanent(got[1].Err))
	require.EqualError(t, got[2].Err, "no such order")
	require.True(t, IsPermanent(got[2].Err))
}

type settles struct{ events *[]SettleEvent }

func (s settles) OnSettle(e SettleEvent) { *s.events = append(*s.events, e) }

// The path of a message stays as cheap as it was: nothing is allocated to tell of it.
func TestObserversAllocateNothing(t *testing.T) {
	d, began := &Delivery{}, time.Now()
	for name, observers := range map[string][]Observer{"none": nil, "one": {&counter{}}, "two": {&counter{}, &counter{}}} {
		o := newObservers(observers, zap.NewNop())
		require.Zero(t, testing.AllocsPerRun(100, func() {
			o.confirmed(nil, ConfirmEvent{Route: Route{Key: "jobs"}, Took: time.Second})
			o.settled(d, Acked, outcome{}, began)
			tell(o.log, o.deliver, DeliverObserver.OnDeliver, DeliverEvent{Delivery: d})
		}), name)
	}
}
