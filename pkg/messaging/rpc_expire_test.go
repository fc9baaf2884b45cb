package messaging_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// request is a request of upper that is made by hand.
func request(t *testing.T, word string, deadline time.Time) amqp.Publishing {
	t.Helper()
	return amqp.Publishing{
		MessageId: uuid.NewString(), Type: upper.Request.Name, UserId: owner, ReplyTo: "nobody", ContentType: "application/json",
		Headers: amqp.Table{messaging.HeaderDeadline: deadline.UnixMilli()}, Body: []byte(strconv.Quote(word)),
	}
}

func TestAnExpiredRequest(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	caller := s.conn.Caller()

	t.Run("never reaches the function", func(t *testing.T) {
		late := request(t, "too late", time.Now().Add(-time.Second))
		inTime := request(t, "in time", time.Now().Add(time.Minute)) // the same with another deadline
		ch := raw(t, b)
		require.NoError(t, ch.Confirm(false))
		for _, m := range []amqp.Publishing{late, inTime} {
			put(t, ch, "calls", "upper", m)
		}
		verdicts := map[string]messaging.Verdict{}
		for range 2 {
			v := next(t, s.verdicts)
			verdicts[v.id] = v.Verdict
		}
		require.Equal(t, map[string]messaging.Verdict{late.MessageId: messaging.Dropped, inTime.MessageId: messaging.Acked}, verdicts)
		require.Equal(t, "in time", next(t, s.asked))
		require.Empty(t, s.asked)
	})
	t.Run("leaves its queue", func(t *testing.T) {
		require.NoError(t, s.consumer.Drain(within(t, 20*time.Second)))
		_, err := messaging.Call(within(t, 200*time.Millisecond), caller, upper, "too late")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			return b.Depth(t, "calls") == 0, "still in its queue"
		})
	})
}

// A call whose context is done before its request is sent sends none.
func TestACallThatIsOverIsNotSent(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	declareCalls(t, raw(t, b))
	caller := b.Connect(t, b.Config()).Caller()
	cancelled, cancel := context.WithCancel(within(t, time.Minute))
	cancel()
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	answered := make(chan error, 1)
	alive, giveUp := context.WithCancel(within(t, time.Minute))
	defer giveUp()
	nowhere := upper
	nowhere.Route.Key = "nowhere"
	_, err := messaging.Call(alive, caller, nowhere, "the channel is open")
	require.ErrorIs(t, err, messaging.ErrUnroutable)
	for range 20 { // a select takes either of two that are ready
		_, err := messaging.Call(cancelled, caller, upper, "x")
		require.ErrorIs(t, err, context.Canceled)
		_, err = messaging.Call(over, caller, upper, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	go func() { // on the same channel, so after those above
		_, err := messaging.Call(alive, caller, upper, "last")
		answered <- err
	}()
	require.JSONEq(t, `"last"`, string(get(t, raw(t, b), "calls").Body))
	giveUp()
	require.ErrorIs(t, next(t, answered), context.Canceled)
}

// A request that had to wait for a connection lives no longer than its caller waits.
func TestARequestExpiresWithItsDeadline(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	ch := raw(t, b)
	declareCalls(t, ch)
	proxy := messagingtest.NewProxy(t, b)
	config := b.Config()
	config.URLs = []string{proxy.URL}
	conn := b.Connect(t, config)
	caller := conn.Caller()
	proxy.Cut()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { return conn.Ready() != nil, "the loss is not noticed" })

	ctx, giveUp := context.WithTimeout(t.Context(), time.Minute)
	defer giveUp()
	deadline, _ := ctx.Deadline()
	answered := make(chan error, 1)
	go func() {
		_, err := messaging.Call(ctx, caller, upper, "x")
		answered <- err
	}()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) { return time.Until(deadline) < 59*time.Second, "waiting" })
	left := time.Until(deadline)
	proxy.Restore()
	d := get(t, ch, "calls")
	expiration, err := strconv.Atoi(d.Expiration)
	require.NoError(t, err)
	require.LessOrEqual(t, time.Duration(expiration)*time.Millisecond, left)
	require.EqualValues(t, deadline.UnixMilli(), d.Headers[messaging.HeaderDeadline])
	giveUp()
	require.ErrorIs(t, next(t, answered), context.Canceled)
}
