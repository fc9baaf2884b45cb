package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/notifier/internal/notify"
)

const webhookSecret = "s3cret"

func newWebhook(t *testing.T, receive http.HandlerFunc) *notify.Webhook {
	t.Helper()
	server := httptest.NewServer(receive)
	to, err := url.Parse(server.URL)
	require.NoError(t, err)
	webhook := notify.NewWebhook(to, webhookSecret)
	t.Cleanup(func() {
		webhook.Close()
		server.Close()
	})
	return webhook
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	webhook := newWebhook(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	require.NoError(t, webhook.Send(t.Context(), notify.TemplatePlaced, map[string]any{"order_id": "o1", "amount": "19.99 EUR"}, "order-placed:o1"))
	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, "order-placed:o1", got.Header.Get("Idempotency-Key"))
	require.JSONEq(t, `{"event":"order-placed","order_id":"o1","amount":"19.99 EUR"}`, string(body))

	// The check of a receiver.
	require.Equal(t, "order-placed:o1", got.Header.Get("Webhook-Id"))
	sent, err := strconv.ParseInt(got.Header.Get("Webhook-Timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(sent, 0), time.Minute)
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	_, _ = fmt.Fprintf(mac, "order-placed:o1.%d.%s", sent, body)
	require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)), got.Header.Get("Webhook-Signature"))
}

// The meaning of each status is tested in pkg/service. This tests that Send uses it.
func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		http.StatusOK: "sent", http.StatusAccepted: "sent", http.StatusNoContent: "sent",
		http.StatusMovedPermanently: "away", http.StatusFound: "away", http.StatusSeeOther: "away",
		http.StatusTemporaryRedirect: "away", http.StatusPermanentRedirect: "away", http.StatusNotModified: "away",
		http.StatusBadRequest: "refused", http.StatusNotFound: "refused", http.StatusGone: "refused",
		http.StatusUnauthorized: "away", http.StatusForbidden: "away", http.StatusRequestTimeout: "away",
		http.StatusTooEarly: "away", http.StatusTooManyRequests: "away",
		http.StatusInternalServerError: "away", http.StatusServiceUnavailable: "away",
		http.StatusConflict: "again",
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			calls := 0
			webhook := newWebhook(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				if r.URL.Path == "/" {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(status)
				}
			})
			err := webhook.Send(t.Context(), "e", nil, "k")
			require.Equal(t, want == "sent", err == nil, err)
			require.Equal(t, want == "refused", messaging.IsPermanent(err))
			require.Equal(t, want == "away", messaging.IsUnavailable(err))
			require.Equal(t, 1, calls, "a redirect is not followed")
		})
	}
}

func TestWebhookWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	webhook := newWebhook(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := webhook.Send(t.Context(), "e", nil, "k")
	require.ErrorContains(t, err, "post a webhook")
	require.True(t, messaging.IsUnavailable(err))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, webhook.Send(ctx, "e", nil, "k"), context.Canceled)
}
