// Package machine gives the whole machine to one system of containers at a time:
// two of them on a small machine would measure each other.
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

// Lock waits until no other process has the machine, and gives what lets it go.
func Lock(ctx context.Context) (unlock func(), err error) {
	name := filepath.Join(os.TempDir(), "orderflow-machine.lock")
	file, err := os.Open(name) //nolint:gosec // it may be another user's, which only O_CREATE minds
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
