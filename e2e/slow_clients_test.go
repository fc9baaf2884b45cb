package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
)

// Two hundred clients that send slowly or do not read do not delay other clients, and the
// server closes their connections.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startAll()
	address := strings.TrimPrefix(s.orders[0].URL, "http://")
	dial := func(request string) net.Conn {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		return conn
	}
	var slow []net.Conn
	for range 65 {
		slow = append(slow,
			dial("POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-"),
			dial("POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n"+asJSON+"\r\nContent-Length: 999\r\n\r\n{"),
			dial("")) // one that sends nothing
	}
	deaf := make(chan error, 5)
	for range cap(deaf) {
		conn, err := (&net.Dialer{Control: smallBuffers}).Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
		go func() { deaf <- sendWithoutReading(conn) }()
	}

	for i := range 5 {
		o := s.place(fmt.Sprint("good-", i), contract.TierExpress, "tok_ok")
		s.becomes(o.ID, "paid")
	}
	for _, conn := range slow { // the header has 5 s, the request 10 s
		_, err := io.ReadAll(conn)
		require.NoError(t, err)
	}
	for range cap(deaf) { // an answer that is not read has 45 s
		require.NoError(t, <-deaf)
	}
	s.becomes(s.place("last", contract.TierExpress, "tok_ok").ID, "paid")
}

// smallBuffers makes the socket buffers of both sides small. With the usual buffers of
// megabytes, they would hold thousands of answers before the server must wait.
func smallBuffers(_, _ string, raw syscall.RawConn) error {
	var size, segment error
	err := raw.Control(func(fd uintptr) {
		size = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		segment = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
	})
	return errors.Join(err, size, segment)
}

// sendWithoutReading sends requests and reads no answer, until the server cannot write and
// closes the connection.
func sendWithoutReading(conn net.Conn) error {
	for {
		_, err := io.WriteString(conn, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("the server still waits")
		case err != nil:
			return nil
		}
	}
}
