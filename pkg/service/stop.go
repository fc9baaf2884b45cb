package service

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Step is one part of a stop.
type Step struct {
	Name string
	// Keep is the time that the steps before this one must leave for it.
	Keep time.Duration
	Func func(ctx context.Context) error
}

// Stop runs the steps one after another, within total, and joins their errors. A step may
// take the time that is left, except what the later steps keep; its context ends then, and it
// must honour that. If a step fails, the later ones still run.
func Stop(total time.Duration, steps ...Step) error {
	var kept time.Duration
	for _, s := range steps {
		kept += s.Keep
	}
	end := time.Now().Add(total)
	var errs []error
	for _, s := range steps {
		kept -= s.Keep
		ctx, cancel := context.WithDeadline(context.Background(), end.Add(-kept))
		if err := s.Func(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.Name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}

// Within calls f, which has no context, and waits for it until ctx is done. Then it returns,
// while f goes on in the background.
func Within(ctx context.Context, f func()) error {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
