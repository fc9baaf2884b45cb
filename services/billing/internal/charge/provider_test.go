package charge_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/billing/internal/charge"
)

const (
	token       = "tok_secret_4711"
	providerKey = "key_secret_4712"
)

func command() charge.Command {
	return charge.Command{
		Received:  charge.Received{Queue: contract.BillingCharge.Name, MessageID: "m-1", Attempt: 1},
		PaymentID: "p-1", OrderID: "o-1", CustomerID: "c-1", Region: contract.RegionEU, Tier: contract.TierExpress,
		Amount: contract.Money{AmountMinor: 1999, Currency: "EUR"},
		Token:  token,
	}
}

// observed collects what a provider reports to its metrics.
type observed struct {
	mu    sync.Mutex
	calls []string
}

func (o *observed) observe(operation, outcome string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, operation+" "+outcome)
}

// newProvider makes a client of an HTTP server with the given answer.
func newProvider(t *testing.T, timeout time.Duration, answer http.HandlerFunc) (*charge.Provider, *observed) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	seen := &observed{}
	p := charge.NewProvider(at(t, server), providerKey, timeout, seen.observe)
	t.Cleanup(p.Close)
	return p, seen
}

func at(t *testing.T, server *httptest.Server) *url.URL {
	t.Helper()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	return u
}

const captured = `{"payment_id":"p-1","order_id":"o-1","amount":{"amount_minor":1999,"currency":"EUR"},"at":"2026-01-02T03:04:05Z"}`

func TestAnswersOfTheProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		status  int
		body    string
		outcome string
	}{
		{"captured", 201, captured, "done"},
		{"captured before", 200, captured, "done"},
		{"another amount", 200, `{"payment_id":"p-1","order_id":"o-1","amount":{"amount_minor":1,"currency":"EUR"}}`, "unavailable"},
		{"yes, but to nothing", 200, `{}`, "unavailable"},
		{"yes, and null", 200, `null`, "unavailable"},
		{"yes, but cut off", 201, captured[:40], "unavailable"},
		{"yes, but not JSON", 200, `<html>`, "unavailable"},
		{"accepted for later", 202, ``, "unavailable"},
		{"no content", 204, ``, "unavailable"},
		{"moved", 301, ``, "unavailable"},
		{"found elsewhere", 302, ``, "unavailable"},
		{"see another", 303, ``, "unavailable"},
		{"a redirect", 307, ``, "unavailable"},
		{"a redirect for good", 308, ``, "unavailable"},
		{"a key that has run out", 401, ``, "unavailable"},
		{"a key without the right", 403, ``, "unavailable"},
		{"no such path", 404, ``, "refused"},
		{"bad request", 400, `{"code":"bad"}`, "refused"},
		{"time-out of the server", 408, ``, "unavailable"},
		{"conflict", 409, ``, "conflict"},
		{"broken token", 422, `{"code":"token_broken","detail":"` + token + `"}`, "refused"},
		{"too early", 425, ``, "unavailable"},
		{"too many requests", 429, ``, "unavailable"},
		{"internal error", 500, ``, "unavailable"},
		{"down", 503, `{"detail":"` + token + `"}`, "unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			p, seen := newProvider(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
				calls++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			err := p.Capture(t.Context(), command())
			require.Equal(t, c.outcome == "done", err == nil)
			require.Equal(t, c.outcome == "unavailable", messaging.IsUnavailable(err))
			require.Equal(t, c.outcome == "refused", messaging.IsPermanent(err))
			if err != nil {
				require.NotContains(t, err.Error(), token)
				require.NotContains(t, err.Error(), providerKey)
			}
			require.Equal(t, []string{"capture " + c.outcome}, seen.calls)
			require.Equal(t, 1, calls, "a redirect is not followed")
		})
	}
}

func TestDeclined(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, reason string }{
		{"with a code", `{"code":"card_declined"}`, "card_declined"},
		{"without one", ``, "declined"},
		{"with a code that no database can store", `{"code":"a\u0000b"}`, "declined"},
		{"with a code of two lines", `{"code":"a\nb"}`, "declined"},
		{"with a code that is too long", `{"code":"` + strings.Repeat("a", 101) + `"}`, "declined"},
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
			require.True(t, messaging.IsPermanent(p.Refund(t.Context(), command())))
			require.Equal(t, []string{"capture declined", "refund declined"}, seen.calls)
		})
	}
}

func TestWhatTheProviderIsAsked(t *testing.T) {
	t.Parallel()
	type asked struct {
		path, key, authorization string
		body                     map[string]any
	}
	var got []asked
	p, _ := newProvider(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		a := asked{path: r.Method + " " + r.URL.Path, key: r.Header.Get("Idempotency-Key"), authorization: r.Header.Get("Authorization")}
		_ = json.NewDecoder(r.Body).Decode(&a.body)
		got = append(got, a)
		_, _ = io.WriteString(w, captured)
	})
	require.NoError(t, p.Capture(t.Context(), command()))
	require.NoError(t, p.Refund(t.Context(), command()))
	amount := map[string]any{"amount_minor": 1999.0, "currency": "EUR"}
	require.Equal(t, []asked{
		{"POST /v1/captures", "p-1", "Bearer " + providerKey, map[string]any{"order_id": "o-1", "payment_token": token, "amount": amount}},
		{"POST /v1/refunds", "refund:p-1", "Bearer " + providerKey, map[string]any{"order_id": "o-1", "payment_id": "p-1", "amount": amount}},
	}, got)
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		p := charge.NewProvider(at(t, server), "", time.Minute, (&observed{}).observe)
		require.True(t, messaging.IsUnavailable(p.Capture(t.Context(), command())))
	})
	t.Run("it takes too long", func(t *testing.T) {
		t.Parallel()
		released := make(chan struct{})
		p, _ := newProvider(t, 50*time.Millisecond, func(http.ResponseWriter, *http.Request) { <-released })
		defer close(released)
		require.True(t, messaging.IsUnavailable(p.Capture(t.Context(), command())))
	})
	t.Run("the handler has no time left", func(t *testing.T) {
		t.Parallel()
		p, _ := newProvider(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // the server notices that the client has disconnected only after the body
			<-r.Context().Done()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := p.Capture(ctx, command())
		require.True(t, messaging.IsUnavailable(err))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
