package messaging_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// ofVersion is the broker behind a wire on which it has another version: what it
// says of itself in connection.start is exchanged for one of the same length.
func ofVersion(t *testing.T, b *messagingtest.BrokerInfo, older func(version []byte)) string {
	t.Helper()
	u, err := url.Parse(b.URL)
	require.NoError(t, err)
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u.Host = l.Addr().String()
	relay := func(client net.Conn) {
		defer func() { _ = client.Close() }()
		broker, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		var up sync.WaitGroup
		defer up.Wait()
		defer func() { _ = broker.Close() }()
		up.Go(func() {
			_, _ = io.Copy(broker, client)
			_ = broker.Close()
		})
		// The first frame: type, channel and size in 7 bytes, the payload, an end byte.
		frame := make([]byte, 7)
		if _, err := io.ReadFull(broker, frame); err != nil {
			return
		}
		size := int(frame[3])<<24 | int(frame[4])<<16 | int(frame[5])<<8 | int(frame[6])
		frame = append(frame, make([]byte, size+1)...)
		if _, err := io.ReadFull(broker, frame[7:]); err != nil {
			return
		}
		const field = "\x07versionS\x00\x00\x00" // a table's field of type long string, but for the last byte of its length
		if i := bytes.Index(frame, []byte(field)); i >= 0 {
			at := i + len(field)
			older(frame[at+1 : at+1+int(frame[at])])
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
		_, _ = io.Copy(client, broker)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { relay(client) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return u.String()
}

func TestConnectRefusesAnOldBroker(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	connect := func(older func([]byte)) error {
		config := b.Config()
		config.URLs = []string{ofVersion(t, b, older)}
		conn, err := messaging.Connect(within(t, 30*time.Second), config)
		if err == nil {
			require.NoError(t, conn.Close(within(t, 20*time.Second)))
		}
		return err
	}
	require.NoError(t, connect(func([]byte) {}), "as it is")
	err := connect(func(version []byte) {
		copy(version, strings.Repeat("9", len(version)))
		copy(version, "4.2.")
	})
	require.ErrorIs(t, err, messaging.ErrBrokerTooOld)
	require.ErrorContains(t, err, `runs RabbitMQ "4.2.9`)
	require.ErrorContains(t, err, "at least 4.3.1")
}
