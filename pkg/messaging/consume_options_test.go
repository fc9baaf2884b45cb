package messaging_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// What the options say is tested without a broker; here that every call asks.
func TestConsumeRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	c := b.Connect(t, b.Config())
	jobs := messaging.Queue{Name: "jobs", Type: messaging.Quorum}
	ignore := messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error { return nil })
	for want, try := range map[string]struct {
		queue   messaging.Queue
		options []messaging.ConsumeOption
	}{
		"Concurrency": {jobs, []messaging.ConsumeOption{messaging.Concurrency(0)}},
		"Retry.Limit": {messaging.Queue{Name: "jobs", Retry: messaging.Retry{Limit: -2}}, nil},
		"Name":        {messaging.Queue{Type: messaging.Quorum}, nil},
		"use Stream":  {messaging.Queue{Name: "audit", Type: messaging.Stream}, nil},
		"use Listen":  {messaging.Queue{Name: "mine", Exclusive: true}, nil},
	} {
		_, err := c.Consume(try.queue, ignore, try.options...)
		require.ErrorContains(t, err, want)
	}
	mine := messaging.Queue{Type: messaging.Classic, Exclusive: true}
	for want, try := range map[string]struct {
		queue    messaging.Queue
		bindings []messaging.Binding
	}{
		"must be exclusive": {jobs, nil},
		"MaxLength":         {messaging.Queue{Type: messaging.Classic, Exclusive: true, MaxLength: -1}, nil},
		"Source":            {mine, []messaging.Binding{{Source: "events"}, {Key: "all"}}},
		"x-match":           {mine, []messaging.Binding{{Source: "events", Match: map[string]any{"x-match": "some"}}}},
	} {
		_, err := c.Listen(try.queue, try.bindings, ignore)
		require.ErrorContains(t, err, want)
	}
	_, err := c.Listen(mine, nil, ignore, messaging.HandlerTimeout(-1))
	require.ErrorContains(t, err, "HandlerTimeout")
	_, err = c.Publisher(messaging.Window(0))
	require.ErrorContains(t, err, "Window")
}

// What a constructor makes of a nil function is nil, and refused before anything is taken.
func TestConsumeRefusesNilHandlers(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	c := b.Connect(t, b.Config())
	jobs := messaging.Queue{Name: "jobs"}
	mine := messaging.Queue{Type: messaging.Classic, Exclusive: true}
	for name, h := range map[string]messaging.Handler{
		"nil":                       nil,
		"a nil function":            messaging.HandlerFunc(nil),
		"JSON of nil":               messaging.JSON[int](nil),
		"Serve of nil":              messaging.Serve[int, int](publisher(t, c), messaging.Procedure[int, int]{}, nil),
		"Serve with no publisher":   messaging.Serve(nil, messaging.Procedure[int, int]{}, func(context.Context, *messaging.Delivery, int) (int, error) { return 0, nil }),
		"middleware around nothing": messaging.Chain(nil, func(h messaging.Handler) messaging.Handler { return h }),
	} {
		_, err := c.Consume(jobs, h)
		require.ErrorContains(t, err, "handler is nil", name)
		_, err = c.Listen(mine, nil, h)
		require.ErrorContains(t, err, "handler is nil", name)
	}
	// A nil function is no hook, a nil option no option, nil middleware no layer.
	declare(t, raw(t, b), "jobs", 20)
	handled := make(chan struct{}, 1)
	_, err := c.Consume(jobs, messaging.Chain(messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		handled <- struct{}{}
		return nil
	}), nil), messaging.OnSubscribe(nil), nil)
	require.NoError(t, err)
	publishTo(t, c, "jobs", "x")
	next(t, handled)
}
