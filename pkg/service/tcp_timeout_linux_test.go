package service_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The timeouts of the kernel and of the server are set on a real connection.
func TestConnectionsGiveUp(t *testing.T) {
	t.Parallel()
	conn, err := open(t, messagingtest.Database(t)).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()

	socket, ok := conn.Conn().PgConn().Conn().(*net.TCPConn)
	require.True(t, ok)
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	var timeout int
	var refused error
	require.NoError(t, raw.Control(func(fd uintptr) {
		timeout, refused = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}))
	require.NoError(t, refused)
	require.Equal(t, 10_000, timeout, "milliseconds")

	var idle string
	require.NoError(t, conn.QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&idle))
	require.Equal(t, "30s", idle)
}
