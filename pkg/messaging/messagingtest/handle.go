package messagingtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/internal/offline"
)

// Handled is what became of a message: see [Handle].
type Handled struct {
	Verdict messaging.Verdict
	// Err is what the handler has returned, the last time that it was called.
	Err error
	// Calls is how often it was called: more than once where the queue's messages are
	// tried again in place.
	Calls int
	// Published is what was published with the publisher that the handler was given, in
	// this order.
	Published []Published
	// Dead is the copy that went to the queue's dead letters; nil unless it was parked.
	Dead *Published
}

// Published is one message on its way.
type Published struct {
	Route   messaging.Route
	Message messaging.Message
}

// Handle handles a message as a consumer of the queue would, without a broker, and says
// what became of it. It is the consumer's own code, up to the channel: options,
// deadlines, panics, retries in place and verdicts are as they are there.
//
// handler makes the handler; publishes with the publisher that it gets succeed, and are
// recorded. Calls of others (messaging.Call), outboxes and inboxes need a real server.
//
// The delivery says all that the handler may look at: who sent it (UserID) by which
// exchange, and on a quorum queue which attempt it is. What was not set is not there:
// [messaging.NewMessage] makes an id and a time.
//
// Handle takes as long as a consumer does, which is long where it tries again in place. In
// a bubble of testing/synctest it takes no time. After [messaging.Unavailable] it waits one
// second for other messages, as a consumer does, and the verdict is Away.
//
// It ends the test when a consumer would refuse the queue, the handler or the options.
func Handle(t testing.TB, q messaging.Queue, d messaging.Delivery, handler func(*messaging.Publisher) messaging.Handler, opts ...messaging.ConsumeOption) Handled {
	t.Helper()
	handle, ok := offline.Handle.(func(context.Context, *zap.Logger, messaging.Queue, messaging.Delivery, func(*messaging.Publisher) messaging.Handler,
		[]messaging.ConsumeOption, func(messaging.Route, messaging.Message, bool)) (messaging.Verdict, error))
	if !ok {
		t.Fatalf("package messaging has a %T", offline.Handle)
	}
	var mu sync.Mutex
	var out Handled
	watch := func(next messaging.Handler) messaging.Handler {
		return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
			out.Calls++
			out.Err = errCrashed
			err := next.Handle(ctx, d)
			out.Err = err
			return err
		})
	}
	watched := func(p *messaging.Publisher) messaging.Handler { return messaging.Chain(handler(p), watch) }
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	verdict, err := handle(t.Context(), log, q, d, watched, opts, func(r messaging.Route, m messaging.Message, parked bool) {
		mu.Lock()
		defer mu.Unlock()
		if parked {
			out.Dead = &Published{r, m}
			return
		}
		out.Published = append(out.Published, Published{r, m})
	})
	if err != nil {
		t.Fatalf("handle a message of %q: %v", q.Name, err)
	}
	mu.Lock() // it may still be publishing, on a goroutine of its own
	defer mu.Unlock()
	out.Verdict, out.Published = verdict, slices.Clone(out.Published)
	return out
}

var errCrashed = errors.New("the handler panicked, or ended its goroutine")
