package service

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The health check that a container runs for its own process.
func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	t.Setenv("HTTP_ADDR", ":"+port)

	require.NoError(t, healthcheck())
	status = http.StatusServiceUnavailable
	require.ErrorContains(t, healthcheck(), "not ready: 503")
	t.Setenv("HTTP_ADDR", "nonsense")
	require.ErrorContains(t, healthcheck(), "HTTP_ADDR")
}
