// Package machine lets only one system of containers run on the machine at a time: two of
// them would slow each other down.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Lock waits until no other process has the machine, and returns the function that releases it.
func Lock(ctx context.Context) (unlock func(), err error) {
	name := filepath.Join(os.TempDir(), "orderflow-machine.lock")
	file, err := os.Open(name) //nolint:gosec // it may belong to another user: then opening with O_CREATE would fail
	if errors.Is(err, fs.ErrNotExist) {
		file, err = os.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o644) //nolint:gosec // others lock it too
	}
	if err != nil {
		return nil, fmt.Errorf("lock the machine: %w", err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { _ = file.Close() }, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("lock the machine: %w", ctx.Err())
		}
	}
}
