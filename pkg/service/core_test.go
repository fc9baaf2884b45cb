package service_test

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
)

// waitTimeout is how long a test waits for something to happen.
const waitTimeout = 30 * time.Second

// world is a service between a real broker and a real database, each behind a proxy.
type world struct {
	*service.Core
	broker           *messagingtest.BrokerInfo
	toBroker, toData *messagingtest.Proxy
	logs             *observer.ObservedLogs
	routes           *http.ServeMux
	config           service.HTTPConfig
	stop             context.CancelFunc
	done             chan error
}

var work = messaging.Queue{Name: "work", Type: messaging.Classic}

var noTables = service.Migrations{VersionTable: "none_version", Files: func() (fs.FS, error) {
	return fstest.MapFS{"00001_none.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}}, nil
}}

func newWorld(t *testing.T, change func(*world)) *world {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	w := &world{
		broker: messagingtest.Broker(t), logs: logs, routes: http.NewServeMux(), config: anyPorts, done: make(chan error, 1),
		toData: messagingtest.NewProxy(t, &messagingtest.BrokerInfo{URL: messagingtest.Database(t)}),
	}
	w.toBroker = messagingtest.NewProxy(t, w.broker)
	w.routes.HandleFunc("GET /things", func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, messaging.Apply(ctx, w.broker.Admin(), messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: contract.OpsHeartbeats, Kind: messaging.Fanout}},
		Queues:    []messaging.Queue{work},
	}))
	if change != nil {
		change(w)
	}
	var err error
	w.Core, err = service.New(t.Context(), "orders", w.config, service.DatabaseConfig{URL: w.toData.URL},
		service.BrokerConfig{URLs: []string{w.toBroker.URL}}, zap.New(core), noTables)
	require.NoError(t, err)
	return w
}

// run runs the service until the test ends or stops it.
func (w *world) run(t *testing.T, wire func() error) {
	t.Helper()
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.done <- w.Run(ctx, func() (*http.ServeMux, error) { return w.routes, wire() })
	}()
	t.Cleanup(func() { w.stop(); <-ended })
}

func (w *world) becomes(t *testing.T, status int, path string) {
	t.Helper()
	messagingtest.Eventually(t, waitTimeout, func() (bool, string) {
		got, _ := fetch(t, w.Addr()+path)
		_, why := fetch(t, w.AdminAddr()+"/readyz")
		return got == status, why
	})
}

func nothing() error { return nil }

// The ports answer before there is a database or a broker: alive, and not ready.
func TestThePortsOpenFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.toData.Stall(); w.toBroker.Stall() })
	w.run(t, nothing)
	alive := func(waitsFor string) {
		t.Helper()
		w.becomes(t, http.StatusOK, "/healthz")
		status, body := fetch(t, w.Addr()+"/readyz")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Empty(t, body)
		status, body = fetch(t, w.Addr()+"/things")
		require.Equal(t, http.StatusServiceUnavailable, status, body)
		messagingtest.Eventually(t, waitTimeout, func() (bool, string) {
			_, why := fetch(t, w.AdminAddr()+"/readyz")
			return strings.Contains(why, waitsFor), why
		})
		_, metrics := fetch(t, w.AdminAddr()+"/metrics")
		require.Contains(t, metrics, "service_ready 0")
	}
	alive("waits for the database")
	w.toData.Resume()
	alive("waits for the broker")
	w.toBroker.Resume()
	w.becomes(t, http.StatusOK, "/readyz")
	w.becomes(t, http.StatusOK, "/things")

	w.toBroker.Cut() // an outage after the start
	w.becomes(t, http.StatusServiceUnavailable, "/readyz")
	_, metrics := fetch(t, w.AdminAddr()+"/metrics")
	require.Contains(t, metrics, `service_missing{what="broker"} 1`)
	require.Contains(t, metrics, `service_missing{what="database"} 0`)
	w.becomes(t, http.StatusOK, "/healthz")
	w.toBroker.Restore()
	w.becomes(t, http.StatusOK, "/readyz")
	w.stop()
	require.NoError(t, <-w.done)
}

// A service that must stop during its start stops without an error.
func TestStopDuringTheStart(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"before anything":           nil,
		"the database is down":      func(w *world) { w.toData.Cut() },
		"the database is frozen":    func(w *world) { w.toData.Stall() },
		"the broker does not speak": func(w *world) { w.toBroker.Stall() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change)
			w.run(t, nothing)
			if change != nil {
				w.becomes(t, http.StatusOK, "/healthz")
			}
			w.stop()
			require.NoError(t, <-w.done)
			require.Empty(t, w.logs.FilterLevelExact(zap.ErrorLevel).All())
			_, err := net.Dial("tcp", w.Addr())
			require.Error(t, err, "the port is free")
		})
	}
}

// An error for which waiting does not help ends the process.
func TestAStartThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run(t, func() error { return io.ErrNoProgress })
	require.ErrorIs(t, <-w.done, io.ErrNoProgress)
}

// A stop waits for running handlers and requests.
func TestStopFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.config.DrainDelay = 100 * time.Millisecond })
	arrived, finish := make(chan struct{}, 2), make(chan struct{})
	w.routes.HandleFunc("GET /slow", func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-finish })
	w.run(t, func() error {
		return w.Consume(work, messaging.HandlerFunc(func(ctx context.Context, _ *messaging.Delivery) error {
			arrived <- struct{}{}
			<-finish
			return ctx.Err()
		}))
	})
	w.becomes(t, http.StatusOK, "/readyz")
	m, err := messaging.NewMessage(contract.Charge, contract.ChargeBody{})
	require.NoError(t, err)
	pub, err := w.broker.Connect(t, w.broker.Config()).Publisher()
	require.NoError(t, err)
	require.NoError(t, pub.Publish(t.Context(), messaging.Route{Key: work.Name}, m))
	answered := make(chan int, 1)
	go func() {
		res, err := http.Get("http://" + w.Addr() + "/slow")
		if err != nil {
			answered <- 0
			return
		}
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	<-arrived
	<-arrived
	w.stop()
	messagingtest.Eventually(t, waitTimeout, func() (bool, string) {
		_, err := net.Dial("tcp", w.Addr())
		return err != nil, "still takes requests"
	})
	close(finish)
	require.NoError(t, <-w.done)
	require.Equal(t, http.StatusOK, <-answered)
	require.Zero(t, w.broker.Depth(t, work.Name))
}

// A stop does not wait longer than StopTimeout for a handler, and returns an error.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.config.StopTimeout = 17 * time.Second }) // a second for handlers
	arrived, finish := make(chan struct{}, 1), make(chan struct{})
	w.run(t, func() error {
		return w.Consume(work, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
			arrived <- struct{}{}
			<-finish // it honours no context
			return nil
		}))
	})
	defer close(finish)
	w.becomes(t, http.StatusOK, "/readyz")
	m, err := messaging.NewMessage(contract.Charge, contract.ChargeBody{})
	require.NoError(t, err)
	pub, err := w.broker.Connect(t, w.broker.Config()).Publisher()
	require.NoError(t, err)
	require.NoError(t, pub.Publish(t.Context(), messaging.Route{Key: work.Name}, m))
	<-arrived
	w.stop()
	select {
	case err := <-w.done:
		require.ErrorContains(t, err, "stop http and consumers")
	case <-time.After(17*time.Second + 5*time.Second):
		require.Fail(t, "the stop takes longer than it may")
	}
}

// A heartbeat has the version, and the number of messages in progress.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	received := make(chan contract.HeartbeatBody, 100)
	conn := w.broker.Connect(t, w.broker.Config())
	_, err := conn.Listen(contract.HeartbeatListener, []messaging.Binding{{Source: contract.OpsHeartbeats}},
		messaging.HandlerFunc(func(_ context.Context, d *messaging.Delivery) error {
			var body contract.HeartbeatBody
			if err := json.Unmarshal(d.Body, &body); err != nil {
				return err
			}
			received <- body
			return nil
		}))
	require.NoError(t, err)
	finish := make(chan struct{})
	w.run(t, func() error {
		return w.Consume(work, messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
			<-finish
			return nil
		}), messaging.Concurrency(2))
	})
	defer close(finish)
	w.becomes(t, http.StatusOK, "/readyz")
	pub, err := conn.Publisher()
	require.NoError(t, err)
	for range 3 {
		m, err := messaging.NewMessage(contract.Charge, contract.ChargeBody{})
		require.NoError(t, err)
		require.NoError(t, pub.Publish(t.Context(), messaging.Route{Key: work.Name}, m))
	}
	for b := range received { // one each 5 s
		require.Equal(t, "orders", b.Service)
		require.NotEmpty(t, b.Instance)
		require.Equal(t, service.Version(), b.Version)
		if b.InFlight == 2 {
			break
		}
	}
}
