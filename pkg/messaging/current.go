package messaging

import (
	"context"
	"sync"
)

// current has a value that exists only while there is a connection. Others can wait for it.
// The zero value is empty.
type current[T any] struct {
	mu      sync.Mutex
	value   *T
	changed chan struct{} // closed when the value changes; nil while nothing waits
}

func (c *current[T]) set(value *T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// get gives the value and a channel that is closed when it changes. The channel may be nil
// while there is a value.
func (c *current[T]) get() (*T, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value == nil && c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.value, c.changed
}

// await gives the value, and waits while there is none. It returns ErrClosed when closing is
// closed. When ctx ends, the error has the text of why.
func (c *current[T]) await(ctx context.Context, closing <-chan struct{}, why func() string) (*T, error) {
	for {
		if isDone(closing) { // first, so that nothing is accepted after the close
			return nil, ErrClosed
		}
		value, changed := c.get()
		if value != nil {
			return value, nil
		}
		select {
		case <-changed:
		case <-closing:
		case <-ctx.Done():
			return nil, ended(ctx, why())
		}
	}
}
