// Package messagingtest gives tests a real RabbitMQ and a real PostgreSQL: one container for
// each test binary, started when it is needed, and a new virtual host or database for each
// test.
//
//	func TestMain(m *testing.M) { messagingtest.Main(m) }
//
// [Handle] does not need them, and no Docker: it handles a message as a consumer would.
//
//	result := messagingtest.Handle(t, queue, delivery, func(p *messaging.Publisher) messaging.Handler { return events.New(p) })
//	require.Equal(t, messaging.Acked, result.Verdict)
//	require.Len(t, result.Published, 1)
package messagingtest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"go.uber.org/goleak"
)

// Main runs the tests, removes their containers, and fails when a goroutine is still running,
// unless one of the functions endless is in it: functions of other packages that never end.
// Main does not return.
func Main(m *testing.M, endless ...string) {
	code := m.Run()
	for _, c := range []*shared{broker, database} {
		if err := c.terminate(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	management.CloseIdleConnections()
	if code == 0 {
		// The Docker client of testcontainers keeps connections until the process ends.
		endless = append(endless, "net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop")
		var ignored []goleak.Option
		for _, function := range endless {
			ignored = append(ignored, goleak.IgnoreAnyFunction(function))
		}
		if err := goleak.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is a container that all tests of a binary share.
type shared struct {
	start func(ctx context.Context) (testcontainers.Container, error)
	once  sync.Once
	c     testcontainers.Container
	err   error
}

func (s *shared) get(t failer) testcontainers.Container {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		s.c, s.err = s.start(ctx)
	})
	if s.err != nil {
		t.Fatalf("start a container (is Docker there? `make test` sets all up): %v", s.err)
	}
	return s.c
}

func (s *shared) terminate() error {
	if s.c == nil {
		return nil
	}
	return testcontainers.TerminateContainer(s.c)
}

var loopback = netip.MustParseAddr("127.0.0.1")

func imageOf(variable, official string) string {
	if image := os.Getenv(variable); image != "" {
		return image
	}
	return official
}

// failer has the methods of testing.TB that the helpers need; examples have their own.
type failer interface {
	Helper()
	Context() context.Context
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Eventually polls until the condition holds. After the timeout it ends the test with the last
// state.
func Eventually(t testing.TB, timeout time.Duration, condition func() (ok bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	poll := time.NewTicker(25 * time.Millisecond)
	defer poll.Stop()
	for {
		ok, state := condition()
		if ok {
			return
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("not so after %s; last state: %s", timeout, state)
		}
	}
}
