package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
)

var errSold = errors.New("sold")

// Only what is known to be unavailable is 503, with Retry-After. An unknown error is 500,
// without its text, and is logged.
func TestErrorsOfRoutes(t *testing.T) {
	t.Parallel()
	nobody, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/nothing")
	require.NoError(t, err)
	t.Cleanup(nobody.Close)
	for _, c := range []struct {
		name       string
		fail       func(ctx context.Context) error
		status     int
		retryAfter string
		logged     string // the log's message; empty if not logged
	}{
		{"a problem", func(context.Context) error {
			return fmt.Errorf("place: %w", service.NewProblem(http.StatusConflict, "taken"))
		}, http.StatusConflict, "", ""},
		{"an error of the service", func(context.Context) error { return fmt.Errorf("place: %w", errSold) }, http.StatusGone, "", ""},
		{"the database does not answer", nobody.Ping, http.StatusServiceUnavailable, "1", "requests refused"},
		{"the database takes too long", func(context.Context) error { return context.DeadlineExceeded }, http.StatusServiceUnavailable, "1", "requests refused"},
		{"something is away", func(context.Context) error { return messaging.Unavailable(errors.New("mail")) }, http.StatusServiceUnavailable, "1", "requests refused"},
		{"too many requests", func(context.Context) error { return service.NewProblem(http.StatusTooManyRequests, "full").After(5e9) }, http.StatusTooManyRequests, "5", "requests refused"},
		{"a table that is missing", func(context.Context) error { return &pgconn.PgError{Code: "42P01"} }, http.StatusInternalServerError, "", "requests failed"},
		{"whatever else", func(context.Context) error { return errors.New("hush") }, http.StatusInternalServerError, "", "requests failed"},
		{"a panic", func(context.Context) error { panic("hush") }, http.StatusInternalServerError, "", "requests failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.InfoLevel)
			routes := service.Routes(zap.New(core), func(err error) *service.Problem {
				if errors.Is(err, errSold) {
					return service.NewProblem(http.StatusGone, "sold")
				}
				return nil
			}, map[string]func(http.ResponseWriter, *http.Request) error{
				"GET /things": func(_ http.ResponseWriter, r *http.Request) error { return c.fail(r.Context()) },
			})
			const requests = 20
			for range requests {
				w := httptest.NewRecorder()
				routes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/things", nil))
				require.Equal(t, c.status, w.Code)
				require.Equal(t, c.retryAfter, w.Header().Get("Retry-After"))
				require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
				require.NotContains(t, w.Body.String(), "hush")
				var p service.Problem
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
				require.Equal(t, c.status, p.Status)
			}
			if c.logged == "" {
				require.Zero(t, logs.Len())
				return
			}
			require.Equal(t, 1, logs.Len(), "once, and not %d times", requests)
			require.Equal(t, c.logged, logs.All()[0].Message)
			require.Equal(t, "GET /things", logs.All()[0].ContextMap()["route"])
			require.Contains(t, logs.All()[0].ContextMap(), "error")
		})
	}
}

// A request whose client has disconnected is not logged.
func TestADisconnectedClientIsNotLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	routes := service.Routes(zap.New(core), func(error) *service.Problem { return nil }, map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /things": func(_ http.ResponseWriter, r *http.Request) error { return r.Context().Err() },
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	routes.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/things", nil))
	require.Zero(t, logs.Len())
}
