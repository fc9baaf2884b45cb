package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

// In each round, each table is pruned until no old rows are left. If one fails, the next ones
// are pruned all the same.
func TestPrune(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	c := &Core{Log: zap.New(core)}
	c.Prune("broken", func(context.Context) (int64, error) { return 0, errors.New("no such table") })
	left := []int64{10_000, 3, 0, 0} // the second round finds nothing
	rounds := make(chan struct{}, len(left))
	c.Prune("keys", func(context.Context) (int64, error) {
		if len(left) == 0 {
			return 0, nil
		}
		n := left[0]
		left = left[1:]
		if n == 0 {
			rounds <- struct{}{}
		}
		return n, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.prune(ctx, 0, time.Millisecond) }()
	<-rounds
	<-rounds
	cancel()
	<-done
	require.Equal(t, map[string]any{"table": "keys", "rows": int64(10_003)}, logs.FilterMessage("table pruned").All()[0].ContextMap())
	require.Len(t, logs.FilterMessage("table pruned").All(), 1)
	require.Contains(t, logs.FilterMessage("table not pruned, trying again later").All()[0].ContextMap(), "error")
}

// A service that stops while it prunes a table logs no error.
func TestPruneStops(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	c := &Core{Log: zap.New(core)}
	c.Prune("endless", func(ctx context.Context) (int64, error) { return 1, ctx.Err() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.prune(ctx, 0, time.Hour) }()
	cancel()
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		select {
		case <-done:
			return true, ""
		default:
			return false, "still pruning"
		}
	})
	require.Empty(t, logs.FilterMessage("table not pruned, trying again later").All())
}
