package messaging

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

func TestBackoffDoublesToItsBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackoff(time.Second)
		for range 2 {
			for _, bound := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
				began := time.Now()
				require.True(t, b.sleep(t.Context()))
				require.LessOrEqual(t, time.Since(began), bound*time.Millisecond)
			}
			b.reset()
		}
		b = newBackoff(time.Millisecond) // below the first wait
		began := time.Now()
		require.True(t, b.sleep(t.Context()))
		require.LessOrEqual(t, time.Since(began), time.Millisecond)
	})
}

func TestBackoffEndsEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		stop := make(chan struct{})
		close(stop)
		for range 20 { // a select between a finished context and a wait of none picks one at random
			b := newBackoff(time.Hour)
			b.bound = time.Hour
			began := time.Now()
			b.sleep(over)
			b.sleepUnless(t.Context(), stop)
			require.Less(t, time.Since(began), time.Minute)
		}
	})
}

// After the broker has refused a channel, for a minute no more are opened than there were.
func TestALimitOfChannelsIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c channels
		for want := 1; want <= 3; want++ {
			got, err := c.take()
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		c.limited(3)
		c.limited(2) // of another one, at the same time: the first counts
		c.put()
		_, err := c.take()
		require.ErrorIs(t, err, ErrTooManyChannels)
		c.put()
		_, err = c.take()
		require.NoError(t, err)
		<-time.After(limitMemory)
		_, err = c.take()
		require.NoError(t, err)
	})
}

// A handler's error is read once; of several marks the strongest counts.
func TestClassify(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var loop loopError
	loop.inner = &loop
	for _, c := range []struct {
		name string
		err  error
		want outcome
	}{
		{"nil", nil, outcome{}},
		{"any", boom, outcome{failed: true, text: "boom"}},
		{"permanent", fmt.Errorf("wrapped: %w", Permanent(boom)), outcome{failed: true, text: "wrapped: boom", permanent: true}},
		{"unavailable", errors.Join(Unavailable(boom)), outcome{failed: true, text: "boom", away: true}},
		{"unavailable for a time", UnavailableFor(boom, time.Hour), outcome{failed: true, text: "boom", away: true, pause: time.Hour}},
		{"permanent and unavailable", Permanent(Unavailable(boom)), outcome{failed: true, text: "boom", permanent: true}},
		{"done and unavailable", done(Unavailable(boom)), outcome{failed: true, text: "boom", done: true}},
		{"stopping", fmt.Errorf("query: %w", ErrStopping), outcome{failed: true, text: "query: " + ErrStopping.Error(), stopping: true}},
		{"no text", errors.New("\xff"), outcome{failed: true, text: "\uFFFD"}},
		{"one that wraps itself", &loop, outcome{failed: true, text: "loop"}},
	} {
		require.Equal(t, c.want, classify(c.err), c.name)
	}
	require.LessOrEqual(t, len(classify(errors.New(string(make([]byte, 5000)))).text), maxReason)
}

type loopError struct{ inner error }

func (*loopError) Error() string   { return "loop" }
func (e *loopError) Unwrap() error { return e.inner }

func TestTruncateKeepsCharacters(t *testing.T) {
	t.Parallel()
	require.Equal(t, "aü", truncate("aü", 3))
	require.Equal(t, "a", truncate("aü", 2))
	require.Empty(t, truncate("ü", 1))
	require.Equal(t, "\uFFFD", clean("\xff"))
}

// A request whose caller does not wait any more is never sent.
func TestRemaining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		left, err := remaining(ctx)
		require.NoError(t, err)
		require.Equal(t, time.Second, left)
		cancel()
		_, err = remaining(ctx)
		require.ErrorIs(t, err, context.Canceled)
		long, cancel := context.WithTimeout(t.Context(), 2*maxWait)
		defer cancel()
		left, err = remaining(long)
		require.NoError(t, err)
		require.Equal(t, maxWait, left)
	})
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err        error
		limit, all bool
	}{
		{nil, false, false},
		{amqp.ErrClosed, false, false},
		{fmt.Errorf("open: %w", amqp.ErrChannelMax), false, true},
		{&amqp.Error{Code: amqp.NotAllowed, Server: true}, true, true},
		{&amqp.Error{Code: amqp.NotAllowed}, false, false},
	} {
		limit, all := exhausted(c.err)
		require.Equal(t, c.limit, limit, "%v", c.err)
		require.Equal(t, c.all, all, "%v", c.err)
	}
}
