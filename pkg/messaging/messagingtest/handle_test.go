package messagingtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

var (
	charge = messaging.MessageType{Name: "charge.v1", Exchange: "commands", Owner: "shop"}
	work   = messaging.Queue{Name: "charges", Type: messaging.Quorum, DeadLetter: &messaging.DeadLetter{Exchange: "dead", Key: "charges"}}
)

// delivery is a charge as its owner has published it.
func delivery(t *testing.T, amount int) messaging.Delivery {
	t.Helper()
	m, err := messaging.NewMessage(charge, map[string]int{"amount": amount})
	require.NoError(t, err)
	m.UserID = charge.Owner
	return messaging.Delivery{Message: m, Exchange: charge.Exchange, Key: "charge"}
}

// handles makes a handler of a function.
func handles(f messaging.HandlerFunc) func(*messaging.Publisher) messaging.Handler {
	return func(*messaging.Publisher) messaging.Handler { return f }
}

func fails(err error) func(*messaging.Publisher) messaging.Handler {
	return handles(func(context.Context, *messaging.Delivery) error { return err })
}

func TestHandleRecordsWhatIsPublished(t *testing.T) {
	t.Parallel()
	result := messagingtest.Handle(t, work, delivery(t, 7), func(p *messaging.Publisher) messaging.Handler {
		mux := messaging.NewMux("")
		mux.Handle(charge, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, body struct{ Amount int }) error {
			for _, kind := range []string{"charged.v1", "receipt.v1"} {
				m, err := messaging.NewMessage(messaging.MessageType{Name: kind}, d.ID)
				if err != nil {
					return err
				}
				if err := p.Publish(ctx, messaging.Route{Exchange: "events", Key: kind}, m); err != nil {
					return err
				}
			}
			m, err := messaging.NewMessage(messaging.MessageType{}, "x")
			if err != nil {
				return err
			}
			m.Headers = map[string]any{"x": make(chan int)}
			if err := p.Publish(ctx, messaging.Route{}, m); !errors.Is(err, messaging.ErrInvalid) {
				return errors.New("a message that cannot be carried was published")
			}
			return nil
		}))
		return mux.Handler()
	})
	require.NoError(t, result.Err)
	require.Equal(t, messaging.Acked, result.Verdict)
	require.Equal(t, 1, result.Calls)
	require.Len(t, result.Published, 2)
	require.Equal(t, messaging.Route{Exchange: "events", Key: "charged.v1"}, result.Published[0].Route)
	require.Equal(t, "receipt.v1", result.Published[1].Message.Type)
	require.NotEmpty(t, result.Published[1].Message.AppID)
	require.Nil(t, result.Dead)
}

// The verdicts of the table at messaging.Handler.
func TestHandleSettlesAsAConsumer(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	classic := messaging.Queue{Name: "charges", Type: messaging.Classic}
	ordered := messaging.Queue{Name: "charges", Type: messaging.Quorum, SingleActiveConsumer: true}
	for _, c := range []struct {
		name    string
		queue   messaging.Queue
		attempt int
		handler func(*messaging.Publisher) messaging.Handler
		want    messaging.Verdict
		calls   int
	}{
		{"nil", work, 1, fails(nil), messaging.Acked, 1},
		{"an error", work, 1, fails(boom), messaging.Rejected, 1},
		{"on the last attempt but one", work, 20, fails(boom), messaging.Rejected, 1},
		{"on the last attempt", work, 21, fails(boom), messaging.Parked, 1},
		{"permanent", work, 1, fails(messaging.Permanent(boom)), messaging.Parked, 1},
		{"permanent, without dead letters", messaging.Queue{Name: "q", Type: messaging.Quorum}, 1, fails(messaging.Permanent(boom)), messaging.Discarded, 1},
		{"a panic", work, 1, handles(func(context.Context, *messaging.Delivery) error { panic("boom") }), messaging.Rejected, 1},
		{"its deadline", work, 1, handles(func(ctx context.Context, _ *messaging.Delivery) error {
			<-ctx.Done()
			return ctx.Err()
		}), messaging.Rejected, 1},
		{"unavailable", work, 1, fails(messaging.Unavailable(boom)), messaging.Away, 1},
		{"unavailable, where order counts", ordered, 1, fails(messaging.Unavailable(boom)), messaging.Away, 1},
		{"stopping", work, 1, fails(messaging.ErrStopping), messaging.GivenBack, 1},
		{"a classic queue", classic, 1, fails(boom), messaging.Discarded, 21},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := delivery(t, 7)
				d.Attempt = c.attempt
				result := messagingtest.Handle(t, c.queue, d, c.handler)
				require.Equal(t, c.want, result.Verdict)
				require.Equal(t, c.calls, result.Calls)
				require.Equal(t, c.want == messaging.Parked, result.Dead != nil)
				require.Empty(t, result.Published)
			})
		})
	}
}

func TestHandleTriesAgainInPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		left := 2
		result := messagingtest.Handle(t, messaging.Queue{Name: "q", Type: messaging.Classic}, delivery(t, 7),
			handles(func(_ context.Context, d *messaging.Delivery) error {
				if left--; left >= 0 {
					return errors.New("not yet")
				}
				require.Equal(t, 3, d.Attempt)
				return nil
			}))
		require.Equal(t, messaging.Acked, result.Verdict)
		require.Equal(t, 3, result.Calls)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
	})
}

func TestHandleParksACopy(t *testing.T) {
	t.Parallel()
	d := delivery(t, 7)
	d.Headers = map[string]any{"tenant": "a"}
	result := messagingtest.Handle(t, work, d, fails(messaging.Permanent(errors.New("no such account"))))
	require.Equal(t, messaging.Parked, result.Verdict)
	require.ErrorContains(t, result.Err, "no such account")
	require.Equal(t, messaging.Route{Exchange: "dead", Key: "charges"}, result.Dead.Route)
	require.Equal(t, d.ID, result.Dead.Message.ID)
	require.Equal(t, map[string]any{
		"tenant": "a", messaging.HeaderDeadReason: "no such account", messaging.HeaderDeadAttempts: int64(1),
		messaging.HeaderDeadOrigin: "commands", messaging.HeaderDeadUser: "shop",
	}, result.Dead.Message.Headers)
}

// What a handler sees of the delivery is what the broker would have said.
func TestHandleDelivers(t *testing.T) {
	t.Parallel()
	d := delivery(t, 7)
	d.Attempt, d.Acquired = 3, 5
	d.Deaths = []messaging.Death{{Queue: "other", Reason: "rejected", Count: 1}}
	d.Headers = map[string]any{"labels": []string{"a"}}
	messagingtest.Handle(t, work, d, handles(func(_ context.Context, got *messaging.Delivery) error {
		require.Equal(t, "charges", got.Queue)
		require.Equal(t, "charge", got.Key)
		require.Equal(t, 3, got.Attempt)
		require.Equal(t, 5, got.Acquired)
		require.True(t, got.Redelivered)
		require.Equal(t, d.Deaths, got.Deaths)
		require.Equal(t, []any{"a"}, got.Headers["labels"])
		require.Equal(t, d.Body, got.Body)
		return nil
	}))
}

// A server's answers are messages that it publishes.
func TestHandleAServer(t *testing.T) {
	t.Parallel()
	double := messaging.Procedure[int, int]{Request: messaging.MessageType{Name: "double.v1"}, Reply: messaging.MessageType{Name: "double.reply.v1"}}
	m, err := messaging.NewMessage(double.Request, 21)
	require.NoError(t, err)
	m.ReplyTo, m.CorrelationID = "answers", "c-1"
	result := messagingtest.Handle(t, messaging.Queue{Name: "calls", Type: messaging.Classic}, messaging.Delivery{Message: m},
		func(p *messaging.Publisher) messaging.Handler {
			return messaging.Serve(p, double, func(_ context.Context, _ *messaging.Delivery, n int) (int, error) { return 2 * n, nil })
		})
	require.Equal(t, messaging.Acked, result.Verdict)
	require.Len(t, result.Published, 1)
	require.Equal(t, messaging.Route{Key: "answers"}, result.Published[0].Route)
	require.Equal(t, "42", string(result.Published[0].Message.Body))
	require.Equal(t, "c-1", result.Published[0].Message.CorrelationID)
}
