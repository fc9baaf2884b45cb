package messaging

import (
	"context"
	"sync"
)

// current holds something that comes and goes with the connection, and lets
// others wait for it. The zero value holds nothing.
type current[T any] struct {
	mu      sync.Mutex
	value   *T
	changed chan struct{} // closed when the value changes; nil while nobody waits
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

// get gives what is there, else a channel that is closed when that changes.
func (c *current[T]) get() (*T, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value == nil && c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.value, c.changed
}

// await waits while there is nothing. It gives ErrClosed when closing is closed. When ctx
// ends, why says why there is nothing.
func (c *current[T]) await(ctx context.Context, closing <-chan struct{}, why func() string) (*T, error) {
	for {
		if isDone(closing) { // first, so that what is closed never accepts
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
