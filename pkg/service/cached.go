package service

import (
	"context"
	"time"
)

// Cached gives a function that asks at most once in this long, and otherwise gives what
// it knows. Who comes while it asks waits for that, until the end of the own context. An
// error is not kept: the next one asks again.
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
