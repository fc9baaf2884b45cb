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
	Func func(ctx context.Context) error
}

// Stop runs the steps one after another, each with at most this long, and joins
// their errors. A step that fails does not keep the later ones from running.
func Stop(each time.Duration, steps ...Step) error {
	var errs []error
	for _, s := range steps {
		ctx, cancel := context.WithTimeout(context.Background(), each)
		if err := s.Func(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.Name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}
