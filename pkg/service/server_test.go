package service_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
)

const anyPort = "127.0.0.1:0"

var anyPorts = service.HTTPConfig{Addr: anyPort, AdminAddr: anyPort}

// listen runs a server that has not started.
func listen(t *testing.T, c service.HTTPConfig, registry *prometheus.Registry) *service.Server {
	t.Helper()
	s, err := service.NewServer(t.Context(), "orders", c, zap.NewNop(), registry)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		_ = s.Drain(context.Background())
		_ = s.Close(context.Background())
		require.NoError(t, <-served)
	})
	return s
}

// serve runs a server that has started.
func serve(t *testing.T, routes *http.ServeMux, registry *prometheus.Registry, checks ...service.Check) *service.Server {
	t.Helper()
	s := listen(t, anyPorts, registry)
	s.Start(routes, checks...)
	return s
}

// fetch sends a GET, and returns the status and the body without a line end.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get("http://" + url)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func get(t *testing.T, s *service.Server, path string) (int, string) {
	t.Helper()
	return fetch(t, s.Addr()+path)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := service.NewRegistry()
	metrics := service.NewMessagingMetrics(registry)
	route := messaging.Route{Exchange: "orders.events", Key: "order.placed.eu.express"}
	metrics.OnConfirm(messaging.ConfirmEvent{Route: route, Type: "order.placed.v1", Took: time.Millisecond})
	metrics.OnConfirm(messaging.ConfirmEvent{Route: route, Type: "order.placed.v1", Err: messaging.ErrNacked, Took: time.Millisecond})
	for _, queue := range []string{"billing.charge", "amq.gen-1", "amq.gen-2"} {
		d := &messaging.Delivery{Queue: queue}
		metrics.OnDeliver(messaging.DeliverEvent{Delivery: d})
		metrics.OnDeliver(messaging.DeliverEvent{Delivery: d})
		metrics.OnSettle(messaging.SettleEvent{Delivery: d, Verdict: messaging.Acked, Took: time.Millisecond})
	}
	require.EqualValues(t, 3, metrics.InFlight())
	metrics.OnAway(messaging.AwayEvent{Queue: "billing.charge", Err: errors.New("no database")})
	metrics.OnAway(messaging.AwayEvent{Queue: "billing.refund", Err: errors.New("no database")})
	metrics.OnAway(messaging.AwayEvent{Queue: "billing.refund"})
	metrics.OnOverdue(messaging.OverdueEvent{Queue: "billing.charge"})
	metrics.OnDisconnect(messaging.DisconnectEvent{Err: messaging.ErrConnectionLost})
	metrics.OnDisconnect(messaging.DisconnectEvent{Err: messaging.ErrClosed})
	for _, blocked := range []bool{true, true, false} {
		metrics.OnBlock(messaging.BlockEvent{Blocked: blocked})
	}
	status, body := fetch(t, serve(t, http.NewServeMux(), registry).AdminAddr()+"/metrics")
	require.Equal(t, http.StatusOK, status)
	for _, want := range []string{
		`messaging_consumer_away{queue="billing.charge"} 1`,
		`messaging_consumer_away{queue="billing.refund"} 0`,
		`messaging_publish_seconds_count{exchange="orders.events",outcome="confirmed",type="order.placed.v1"} 1`,
		`messaging_publish_seconds_count{exchange="orders.events",outcome="failed",type="order.placed.v1"} 1`,
		`messaging_handle_seconds_count{queue="billing.charge",verdict="acked"} 1`,
		`messaging_handle_seconds_count{queue="(server-named)",verdict="acked"} 2`,
		`messaging_in_flight{queue="billing.charge"} 1`,
		`messaging_in_flight{queue="(server-named)"} 2`,
		`messaging_handler_overdue_total{queue="billing.charge"} 1`,
		"messaging_connections_lost_total 1\n",
		"messaging_connections_blocked 1\n",
		"go_goroutines ",
	} {
		require.Contains(t, body, want)
	}
}

// A request without a route is answered with a problem too, without a redirect.
func TestNoSuchRoute(t *testing.T) {
	t.Parallel()
	routes := http.NewServeMux()
	routes.HandleFunc("GET /things/{id}", func(http.ResponseWriter, *http.Request) {})
	s := serve(t, routes, service.NewRegistry())
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/nothing", http.StatusNotFound, ""},
		{http.MethodGet, "/things/../../etc/passwd", http.StatusNotFound, ""},
		{http.MethodPost, "/things/1", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodPost, "/readyz", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodGet, "/things/1", http.StatusOK, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+s.Addr()+c.path, nil)
		require.NoError(t, err)
		res, err := client.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, c.status, res.StatusCode, c.path)
		require.Equal(t, c.allow, res.Header.Get("Allow"), c.path)
		require.Empty(t, res.Header.Get("Location"), c.path)
		if c.status != http.StatusOK {
			require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), c.path)
			require.Contains(t, string(body), http.StatusText(c.status))
		}
	}
}

func TestALargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NewServeMux(), service.NewRegistry())
	for size, want := range map[int]int{8 << 10: http.StatusOK, 32 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/healthz", nil)
		require.NoError(t, err)
		req.Header.Set("X-Large", strings.Repeat("x", size))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, "%d bytes", size)
	}
}

// A request with two lengths has no clear end, so the connection is closed after it.
func TestNothingFollowsAChunkedRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NewServeMux(), service.NewRegistry())
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+
		"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(8*time.Second)))
	answers, err := io.ReadAll(conn)
	require.NoError(t, err, "the server closes the connection before our deadline")
	require.Equal(t, 1, strings.Count(string(answers), "HTTP/1.1 "), string(answers))
}

// The connection of a client that does not finish its header is closed.
func TestASlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NewServeMux(), service.NewRegistry())
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(8*time.Second)))
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err, "the server closes the connection before our deadline")
}

func TestListenRefusesABadAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	for _, addr := range []string{taken.Addr().String(), "127.0.0.1:nonsense", "127.0.0.1:70000"} {
		_, err := service.NewServer(t.Context(), "orders", service.HTTPConfig{Addr: addr, AdminAddr: anyPort}, zap.NewNop(), service.NewRegistry())
		require.ErrorContains(t, err, "HTTP_ADDR")
		_, err = service.NewServer(t.Context(), "orders", service.HTTPConfig{Addr: anyPort, AdminAddr: addr}, zap.NewNop(), service.NewRegistry())
		require.ErrorContains(t, err, "ADMIN_ADDR")
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	t.Run("of a server that never served frees the ports", func(t *testing.T) {
		t.Parallel()
		s, err := service.NewServer(t.Context(), "orders", anyPorts, zap.NewNop(), service.NewRegistry())
		require.NoError(t, err)
		require.NoError(t, s.Drain(t.Context()))
		require.NoError(t, s.Close(t.Context()))
		for _, addr := range []string{s.Addr(), s.AdminAddr()} {
			_, err = net.Dial("tcp", addr)
			require.Error(t, err)
		}
		require.NoError(t, s.Serve(), "a closed server does not serve")
	})
	t.Run("says that it is not ready, and takes requests for the delay", func(t *testing.T) {
		t.Parallel()
		s := listen(t, service.HTTPConfig{Addr: anyPort, AdminAddr: anyPort, DrainDelay: time.Hour}, service.NewRegistry())
		routes := http.NewServeMux()
		routes.HandleFunc("GET /things", func(http.ResponseWriter, *http.Request) {})
		s.Start(routes)
		status, _ := get(t, s, "/readyz")
		require.Equal(t, http.StatusOK, status)
		ctx, cancel := context.WithCancel(t.Context())
		drained := make(chan error, 1)
		go func() { drained <- s.Drain(ctx) }()
		messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
			status, _ := get(t, s, "/readyz")
			return status == http.StatusServiceUnavailable, "still ready"
		})
		res, err := http.Get("http://" + s.Addr() + "/things")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.True(t, res.Close, "the client must use another connection")
		cancel() // the time for the stop is over
		messagingtest.Eventually(t, 10*time.Second, func() (bool, string) { return len(drained) == 1, "still draining" })
		_, err = net.Dial("tcp", s.Addr())
		require.Error(t, err)
		_, body := fetch(t, s.AdminAddr()+"/readyz")
		require.Contains(t, body, "is stopping", "the admin port still answers")
	})
	t.Run("lets a request finish", func(t *testing.T) {
		t.Parallel()
		s, arrived, answer := slow(t)
		stopped := make(chan error, 1)
		go func() { <-arrived; stopped <- s.Drain(context.Background()) }()
		go func() { <-arrived; close(answer) }()
		status, _ := get(t, s, "/slow")
		require.Equal(t, http.StatusOK, status)
		require.NoError(t, <-stopped)
	})
	t.Run("waits no longer than its context", func(t *testing.T) {
		t.Parallel()
		s, arrived, answer := slow(t)
		defer close(answer)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if res, err := http.Get("http://" + s.Addr() + "/slow"); err == nil {
				_ = res.Body.Close()
			}
		}()
		<-arrived
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Drain(ctx), context.DeadlineExceeded)
		<-gone
	})
}

// slow serves a request that says when it has arrived, and waits to be answered.
func slow(t *testing.T) (s *service.Server, arrived, answer chan struct{}) {
	t.Helper()
	arrived, answer = make(chan struct{}), make(chan struct{})
	routes := http.NewServeMux()
	routes.HandleFunc("GET /slow", func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-answer
	})
	return serve(t, routes, service.NewRegistry()), arrived, answer
}
