package service

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Step is one part of an orderly stop.
type Step struct {
	Name string
	// Keep is the time that the steps before must leave for this one.
	Keep time.Duration
	Func func(ctx context.Context) error
}

// Stop runs the steps one after another and joins their errors. All of them have this
// long together. A step may take what is left but for what the later ones keep, so one
// that waits for its whole time does not take theirs; it must honour its context. A step
// that fails does not keep the later ones from running.
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

// Within calls something that knows no context, and gives up waiting for it when ctx is
// done: what it does then goes on, and is forgotten.
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
