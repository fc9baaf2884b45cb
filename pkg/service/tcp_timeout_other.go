//go:build !linux

package service

import (
	"syscall"
	"time"
)

// failWithoutAck sets nothing: the option exists on Linux only, which the containers run.
// Elsewhere the timeouts of the system apply, and the contexts of the callers.
func failWithoutAck(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
