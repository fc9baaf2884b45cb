package service_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/service"
)

// The public port says whether a process is ready. Only the admin port has the reasons.
func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	ok := service.Check{Name: "database", Func: func(context.Context) error { return nil }}
	missing := service.Check{Name: "broker", Func: func(context.Context) error { return errors.New("dial tcp 10.0.0.7:5672: refused") }}
	for _, c := range []struct {
		name    string
		serve   func(t *testing.T) *service.Server
		status  int
		details string
		metrics []string
	}{
		{"not started", func(t *testing.T) *service.Server { return listen(t, anyPorts, service.NewRegistry()) },
			http.StatusServiceUnavailable, `{"ready":false,"missing":{"process":"not started"}}`,
			[]string{"service_ready 0", `service_missing{what="process"} 1`}},
		{"ready", func(t *testing.T) *service.Server { return serve(t, http.NewServeMux(), service.NewRegistry(), ok) },
			http.StatusOK, `{"ready":true,"missing":{}}`,
			[]string{"service_ready 1", `service_missing{what="database"} 0`}},
		{"something is missing", func(t *testing.T) *service.Server {
			return serve(t, http.NewServeMux(), service.NewRegistry(), ok, missing)
		},
			http.StatusServiceUnavailable, `{"ready":false,"missing":{"broker":"dial tcp 10.0.0.7:5672: refused"}}`,
			[]string{"service_ready 0", `service_missing{what="broker"} 1`, `service_missing{what="database"} 0`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := c.serve(t)
			status, body := get(t, s, "/readyz")
			require.Equal(t, c.status, status)
			require.Empty(t, body, "no reasons on the public port")
			status, body = fetch(t, s.AdminAddr()+"/readyz")
			require.Equal(t, c.status, status)
			require.JSONEq(t, c.details, body)
			_, body = fetch(t, s.AdminAddr()+"/metrics")
			for _, want := range c.metrics {
				require.Contains(t, body, want)
			}
			for _, addr := range []string{s.Addr(), s.AdminAddr()} {
				status, _ = fetch(t, addr+"/healthz")
				require.Equal(t, http.StatusOK, status, "healthy all the same")
			}
		})
	}
}

// While it starts, a process answers with 503 and Retry-After.
func TestRoutesWaitForTheStart(t *testing.T) {
	t.Parallel()
	s := listen(t, anyPorts, service.NewRegistry())
	res, err := http.Get("http://" + s.Addr() + "/things")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
	routes := http.NewServeMux()
	routes.HandleFunc("GET /things", func(http.ResponseWriter, *http.Request) {})
	s.Start(routes)
	status, _ := get(t, s, "/things")
	require.Equal(t, http.StatusOK, status)
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NewServeMux(), service.NewRegistry())
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1"} {
		status, _ := fetch(t, s.AdminAddr()+path)
		require.Equal(t, http.StatusOK, status, path)
		status, _ = get(t, s, path)
		require.Equal(t, http.StatusNotFound, status, path)
	}
	status, _ := get(t, s, "/metrics")
	require.Equal(t, http.StatusNotFound, status)
}

// Frequent requests for the readiness do not cause as many queries.
func TestChecksAreKept(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := serve(t, http.NewServeMux(), service.NewRegistry(), service.Check{Name: "database", Func: func(context.Context) error { asked.Add(1); return nil }})
	const requests = 100
	for range requests {
		status, _ := get(t, s, "/readyz")
		require.Equal(t, http.StatusOK, status)
	}
	require.Less(t, asked.Load(), int64(requests))
}
