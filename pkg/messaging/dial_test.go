package messaging_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Clients that come back before the broker has noticed that they were gone meet its
// limits, with the code that also says "no such virtual host".
func TestConnectWaitsBehindALimit(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	user := "u-" + uuid.NewString()
	b.Management(t, http.MethodPut, "/api/users/"+user, map[string]any{"password": "secret", "tags": ""}, nil)
	t.Cleanup(func() { b.Management(t, http.MethodDelete, "/api/users/"+user, nil, nil) })
	b.Management(t, http.MethodPut, "/api/permissions/"+b.VHost+"/"+user, map[string]any{"configure": ".*", "write": ".*", "read": ".*"}, nil)
	for _, c := range []struct{ name, limit string }{
		{"of a user", "/api/user-limits/" + user + "/max-connections"},
		{"of a virtual host", "/api/vhost-limits/" + b.VHost + "/max-connections"},
	} {
		t.Run(c.name, func(t *testing.T) {
			core, logs := observer.New(zap.InfoLevel)
			config := b.Config()
			config.User, config.Password = user, "secret"
			config.MaxBackoff, config.Logger = 50*time.Millisecond, zap.New(core)
			b.Management(t, http.MethodPut, c.limit, map[string]any{"value": 0}, nil)
			_, err := messaging.Connect(within(t, 3*time.Second), config)
			require.ErrorIs(t, err, context.DeadlineExceeded, "gave up")
			require.ErrorContains(t, err, "limit (0) is reached")
			require.Len(t, logs.FilterMessage("broker not reachable, trying again").All(), 1, "one line for one state")

			connected := make(chan error, 1)
			go func() {
				conn, err := messaging.Connect(within(t, 30*time.Second), config)
				if err == nil {
					err = conn.Close(within(t, 10*time.Second))
				}
				connected <- err
			}()
			messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
				return logs.FilterMessage("broker not reachable, trying again").Len() == 2, "does not try"
			})
			b.Management(t, http.MethodDelete, c.limit, nil, nil)
			require.NoError(t, next(t, connected))
			reached := logs.FilterMessage("broker reached again").All()
			require.Len(t, reached, 1)
			require.Positive(t, reached[0].ContextMap()["failures"])
		})
	}
}

// brokenHandshakes is a proxy to the broker that closes the connection after the client's login,
// as it does when a node stops.
func brokenHandshakes(t *testing.T, b *messagingtest.BrokerInfo) string {
	t.Helper()
	u, err := url.Parse(b.URL)
	require.NoError(t, err)
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u.Host = l.Addr().String()
	frame := func(from io.Reader, to io.Writer) {
		head := make([]byte, 7)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		_, _ = to.Write(head)
		_, _ = io.CopyN(to, from, int64(binary.BigEndian.Uint32(head[3:]))+1)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", target)
			if err == nil {
				_, _ = io.CopyN(broker, client, 8) // the protocol's name
				frame(broker, client)              // connection.start
				frame(client, io.Discard)          // connection.start-ok
				_ = broker.Close()
			}
			_ = client.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); accepting.Wait() })
	return u.String()
}

func TestAHandshakeThatBreaksOffIsNoRefusal(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	config := b.Config()
	config.URLs, config.MaxBackoff = []string{brokenHandshakes(t, b)}, 10*time.Millisecond
	_, err := messaging.Connect(within(t, 2*time.Second), config)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the handshake broke off")
}
