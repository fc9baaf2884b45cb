package service

import (
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// failWithoutAck makes a TCP connection fail when sent data was not acknowledged for d. The
// default of Linux is about 15 minutes (TCP_USER_TIMEOUT in tcp(7)).
func failWithoutAck(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil // a Unix socket
		}
		var refused error
		err := c.Control(func(fd uintptr) {
			refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		if err != nil {
			return err
		}
		return refused
	}
}
