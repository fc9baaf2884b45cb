package service

import (
	"context"
	"time"
)

// Cached returns a function that calls ask, and returns the same value for as long as age
// without another call. A caller that comes during a call of ask waits for its end, or until
// its own context is done. An error is not kept: the next caller calls ask again.
func Cached[T any](age time.Duration, ask func(ctx context.Context) (T, error)) func(ctx context.Context) (T, error) {
	var value T
	var asked time.Time
	turn := make(chan struct{}, 1) // guards both
	return func(ctx context.Context) (T, error) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
		if !asked.IsZero() && time.Since(asked) < age {
			return value, nil
		}
		fresh, err := ask(ctx)
		if err != nil {
			return fresh, err
		}
		value, asked = fresh, time.Now()
		return value, nil
	}
}
