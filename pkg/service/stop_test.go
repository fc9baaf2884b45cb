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

// All steps share one time. A step that takes all of it still leaves the others what they
// keep.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		var ran []string
		var at []time.Duration
		broken := errors.New("broken")
		step := func(name string, keep time.Duration, f func(ctx context.Context) error) service.Step {
			return service.Step{Name: name, Keep: keep, Func: func(ctx context.Context) error {
				ran, at = append(ran, name), append(at, time.Since(started))
				return f(ctx)
			}}
		}
		wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		err := service.Stop(40*time.Second,
			step("http", 0, func(context.Context) error { return broken }),
			step("consumers", 0, wait),
			step("relay", 10*time.Second, wait),
			step("database", time.Second, func(ctx context.Context) error {
				require.NoError(t, ctx.Err())
				deadline, ok := ctx.Deadline()
				require.True(t, ok)
				require.Equal(t, 40*time.Second, deadline.Sub(started))
				return nil
			}),
		)
		require.Equal(t, []string{"http", "consumers", "relay", "database"}, ran)
		require.Equal(t, []time.Duration{0, 0, 29 * time.Second, 39 * time.Second}, at)
		require.ErrorIs(t, err, broken)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "stop http: broken\nstop consumers: context deadline exceeded\nstop relay: context deadline exceeded")
	})
	require.NoError(t, service.Stop(time.Second))
}

// A function without a context is not waited for longer than the step's time.
func TestWithin(t *testing.T) {
	t.Parallel()
	require.NoError(t, service.Within(t.Context(), func() {}))
	forever := make(chan struct{})
	defer close(forever)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, service.Within(ctx, func() { <-forever }), context.Canceled)
}
