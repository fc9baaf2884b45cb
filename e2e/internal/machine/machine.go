// Package machine gives the whole machine to one system of containers at a time:
// two of them on a small machine would measure each other.
package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Lock waits until no other process has the machine, and gives what lets it go.
func Lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(os.TempDir(), "orderflow-machine.lock"), os.O_CREATE|os.O_RDWR, 0o600)
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
