package httpapi_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/tools/sandbox/internal/httpapi"
)

func TestTheProvidersKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ServeMux = httpapi.Routes(f.store, httpapi.Secrets{ProviderKey: "s3cret"}, f.faults, zap.NewNop())
	capture := func(authorization string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/v1/captures", strings.NewReader(aCapture))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "p1")
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		return w
	}
	for _, wrong := range []string{"", "Bearer wrong", "Bearer s3cret2", "Basic s3cret"} {
		w := capture(wrong)
		require.Equal(t, "401 unknown_key", fmt.Sprint(problem(t, w).Status, " ", problem(t, w).Code), wrong)
		require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
	}
	require.Equal(t, http.StatusUnauthorized, f.refund("r1", "p1", "o1").Code)
	require.Zero(t, f.list(t, "/v1/captures").Total)
	require.Equal(t, http.StatusCreated, capture("Bearer s3cret").Code)
	require.Equal(t, 1, f.list(t, "/v1/captures").Total)
}

func TestSignedWebhooks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ServeMux = httpapi.Routes(f.store, httpapi.Secrets{Webhook: "s3cret"}, f.faults, zap.NewNop())
	const id, body = "order-placed:o1", `{"order_id":"o1"}`
	sign := func(secret, id string, at time.Time, body string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
		return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	now := time.Now()
	good := sign("s3cret", id, now, body)
	for _, c := range []struct {
		name, id  string
		at        time.Time
		signature string
		status    int
	}{
		{"good", id, now, good, http.StatusNoContent},
		{"one of two, while a secret is changed", id, now, sign("old", id, now, body) + " " + good, http.StatusNoContent},
		{"none", id, now, "", http.StatusUnauthorized},
		{"by another", id, now, sign("other", id, now, body), http.StatusUnauthorized},
		{"of another body", id, now, sign("s3cret", id, now, `{"order_id":"o2"}`), http.StatusUnauthorized},
		{"of another id", id + "x", now, good, http.StatusUnauthorized},
		{"of another time", id, now.Add(time.Second), good, http.StatusUnauthorized},
		{"too old", id, now.Add(-6 * time.Minute), sign("s3cret", id, now.Add(-6*time.Minute), body), http.StatusUnauthorized},
		{"too early", id, now.Add(6 * time.Minute), sign("s3cret", id, now.Add(6*time.Minute), body), http.StatusUnauthorized},
		{"of another version", id, now, "v0" + good[2:], http.StatusUnauthorized},
	} {
		r := httptest.NewRequest(http.MethodPost, "/webhooks", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Webhook-Id", c.id)
		r.Header.Set("Webhook-Timestamp", fmt.Sprint(c.at.Unix()))
		r.Header.Set("Webhook-Signature", c.signature)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		require.Equal(t, c.status, w.Code, c.name)
		if c.status == http.StatusUnauthorized {
			require.Equal(t, "bad_signature", problem(t, w).Code, c.name)
		}
	}
	require.Len(t, f.list(t, "/v1/webhooks").Webhooks, 2)
}
