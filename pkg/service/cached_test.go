package service_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/service"
)

func TestCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		away := errors.New("away")
		var err error
		ask := service.Cached(time.Second, func(context.Context) (int, error) {
			asked++
			return asked, err
		})
		for range 2 {
			got, err := ask(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1, got)
			pass(400 * time.Millisecond)
		}
		pass(200 * time.Millisecond)
		err = away
		_, got := ask(t.Context())
		require.ErrorIs(t, got, away)
		err = nil
		value, got := ask(t.Context())
		require.NoError(t, got)
		require.Equal(t, 3, value, "an error is not kept")
	})
}

// A caller that waits for another caller's result waits no longer than its own context.
func TestCachedWaitsAsLongAsTheContext(t *testing.T) {
	t.Parallel()
	asking, answer := make(chan struct{}), make(chan struct{})
	ask := service.Cached(time.Hour, func(context.Context) (int, error) {
		close(asking)
		<-answer
		return 1, nil
	})
	done := make(chan struct{})
	go func() { defer close(done); _, _ = ask(context.Background()) }()
	<-asking
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := ask(ctx)
	require.ErrorIs(t, err, context.Canceled)
	close(answer)
	<-done
}
