package service_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/service"
)

func TestStop(t *testing.T) {
	t.Parallel()
	var ran []string
	broken := errors.New("broken")
	step := func(name string, f func(ctx context.Context) error) service.Step {
		return service.Step{Name: name, Func: func(ctx context.Context) error { ran = append(ran, name); return f(ctx) }}
	}
	var left time.Duration
	err := service.Stop(50*time.Millisecond,
		step("http", func(context.Context) error { return broken }),
		step("relay", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }),
		step("database", func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			left = time.Until(deadline)
			return ctx.Err()
		}),
	)
	require.Equal(t, []string{"http", "relay", "database"}, ran)
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, "stop http: broken\nstop relay: context deadline exceeded")
	require.Positive(t, left, "each step has its own time")
	require.NoError(t, service.Stop(time.Second))
}
