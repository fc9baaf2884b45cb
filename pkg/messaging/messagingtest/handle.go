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

// Handled is the result of [Handle].
type Handled struct {
	Verdict messaging.Verdict
	// Err is the error of the handler's last call.
	Err error
	// Calls is how often the handler was called: more than once if the queue's messages are
	// retried in place.
	Calls int
	// Published has the messages that were published with the handler's publisher, in order.
	Published []Published
	// Dead is the copy for the dead-letter queue; nil unless the message was parked.
	Dead *Published
}

// Published is one message that was published.
type Published struct {
	Route   messaging.Route
	Message messaging.Message
}

// Handle handles a message as a consumer of the queue would, without a broker, and gives the
// result. It runs the consumer's own code; only the channel is replaced. So options,
// deadlines, panics, retries in place and verdicts are the same as in a consumer.
//
// handler makes the handler. Every publish with its publisher succeeds and is recorded. RPC
// calls (messaging.Call), outboxes and inboxes need a real broker or database.
//
// Set all fields of the delivery that the handler uses: the user who sent it (UserID), the
// exchange, and on a quorum queue the attempt. Nothing is filled in, so make the message with
// [messaging.NewMessage], which sets the id and the time.
//
// Handle takes as long as a consumer does, which is long if it retries in place. In a bubble
// of testing/synctest it takes no time. After [messaging.Unavailable] it waits one second for
// other messages, as a consumer does, and the verdict is Away.
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
	mu.Lock() // the handler may still publish on a goroutine of its own
	defer mu.Unlock()
	out.Verdict, out.Published = verdict, slices.Clone(out.Published)
	return out
}

var errCrashed = errors.New("the handler panicked or ended its goroutine")
