package charge_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/services/billing/internal/charge"
)

const token = "tok_secret_4711"

func command() charge.Command {
	return charge.Command{
		Received:  charge.Received{Queue: contract.BillingCharge.Name, MessageID: "m-1", Attempt: 1},
		PaymentID: "p-1", OrderID: "o-1", CustomerID: "c-1", Region: contract.RegionEU, Tier: contract.TierExpress,
		Amount: contract.Money{AmountMinor: 1999, Currency: "EUR"},
		Token:  token,
	}
}

// observed collects what a provider tells its metrics.
type observed struct {
	mu    sync.Mutex
	calls []string
}

func (o *observed) observe(operation, outcome string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, operation+" "+outcome)
}

// newProvider makes a client of an HTTP server that answers as told.
func newProvider(t *testing.T, timeout time.Duration, answer http.HandlerFunc) (*charge.Provider, *observed) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	seen := &observed{}
	p, err := charge.NewProvider(server.URL, timeout, seen.observe)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p, seen
}

const captured = `{"payment_id":"p-1","order_id":"o-1","amount":{"amount_minor":1999,"currency":"EUR"},"at":"2026-01-02T03:04:05Z"}`

func TestAnswersOfTheProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		status  int
		body    string
		want    error
		outcome string
	}{
		{"captured", 201, captured, nil, "done"},
		{"captured before", 200, captured, nil, "done"},
		{"another amount", 200, `{"payment_id":"p-1","order_id":"o-1","amount":{"amount_minor":1,"currency":"EUR"}}`, charge.ErrRefused, "refused"},
		{"yes, but not JSON", 200, `<html>`, charge.ErrUnavailable, "unavailable"},
		{"accepted for later", 202, ``, charge.ErrUnavailable, "unavailable"},
		{"a redirect", 307, ``, charge.ErrUnavailable, "unavailable"},
		{"bad request", 400, `{"code":"bad"}`, charge.ErrRefused, "refused"},
		{"time-out of the server", 408, ``, charge.ErrUnavailable, "unavailable"},
		{"conflict", 409, ``, charge.ErrRefused, "refused"},
		{"broken token", 422, `{"code":"token_broken","detail":"` + token + `"}`, charge.ErrRefused, "refused"},
		{"too many requests", 429, ``, charge.ErrUnavailable, "unavailable"},
		{"internal error", 500, ``, charge.ErrUnavailable, "unavailable"},
		{"down", 503, `{"detail":"` + token + `"}`, charge.ErrUnavailable, "unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, seen := newProvider(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			err := p.Capture(t.Context(), command())
			require.ErrorIs(t, err, c.want)
			if err != nil {
				require.NotContains(t, err.Error(), token)
			}
			require.Equal(t, []string{"capture " + c.outcome}, seen.calls)
		})
	}
}

func TestDeclined(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, reason string }{
		{"with a code", `{"code":"card_declined"}`, "card_declined"},
		{"without one", ``, "declined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, seen := newProvider(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusPaymentRequired)
				_, _ = io.WriteString(w, c.body)
			})
			var declined *charge.DeclinedError
			require.ErrorAs(t, p.Capture(t.Context(), command()), &declined)
			require.Equal(t, c.reason, declined.Reason)
			require.ErrorIs(t, p.Refund(t.Context(), command()), charge.ErrRefused)
			require.Equal(t, []string{"capture declined", "refund declined"}, seen.calls)
		})
	}
}

func TestWhatTheProviderIsAsked(t *testing.T) {
	t.Parallel()
	type asked struct {
		path, key string
		body      map[string]any
	}
	var got []asked
	p, _ := newProvider(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		a := asked{path: r.Method + " " + r.URL.Path, key: r.Header.Get("Idempotency-Key")}
		_ = json.NewDecoder(r.Body).Decode(&a.body)
		got = append(got, a)
		_, _ = io.WriteString(w, captured)
	})
	require.NoError(t, p.Capture(t.Context(), command()))
	require.NoError(t, p.Refund(t.Context(), command()))
	amount := map[string]any{"amount_minor": 1999.0, "currency": "EUR"}
	require.Equal(t, []asked{
		{"POST /v1/captures", "p-1", map[string]any{"order_id": "o-1", "payment_token": token, "amount": amount}},
		{"POST /v1/refunds", "refund:p-1", map[string]any{"order_id": "o-1", "payment_id": "p-1", "amount": amount}},
	}, got)
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		p, err := charge.NewProvider(server.URL, time.Minute, (&observed{}).observe)
		require.NoError(t, err)
		require.ErrorIs(t, p.Capture(t.Context(), command()), charge.ErrUnavailable)
	})
	t.Run("it takes too long", func(t *testing.T) {
		t.Parallel()
		released := make(chan struct{})
		p, _ := newProvider(t, 50*time.Millisecond, func(http.ResponseWriter, *http.Request) { <-released })
		defer close(released)
		require.ErrorIs(t, p.Capture(t.Context(), command()), charge.ErrUnavailable)
	})
	t.Run("the handler has no time left", func(t *testing.T) {
		t.Parallel()
		p, _ := newProvider(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // the server notices a caller that is gone only after the body
			<-r.Context().Done()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := p.Capture(ctx, command())
		require.ErrorIs(t, err, charge.ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestURLOfTheProvider(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "sandbox:8090", "ftp://sandbox", "http://", "http://a b"} {
		_, err := charge.NewProvider(bad, time.Second, (&observed{}).observe)
		require.Error(t, err, bad)
	}
}
