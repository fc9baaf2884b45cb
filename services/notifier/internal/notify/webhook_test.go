package notify_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/services/notifier/internal/notify"
)

func newWebhook(t *testing.T, receive http.HandlerFunc) *notify.Webhook {
	t.Helper()
	server := httptest.NewServer(receive)
	webhook := notify.NewWebhook(server.URL)
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
}

func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status        int
		sent, refused bool
	}{
		{http.StatusOK, true, false},
		{http.StatusAccepted, true, false},
		{http.StatusBadRequest, false, true},
		{http.StatusNotFound, false, true},
		{http.StatusGone, false, true},
		{http.StatusRequestTimeout, false, false},
		{http.StatusTooManyRequests, false, false},
		{http.StatusNotModified, false, false},
		{http.StatusInternalServerError, false, false},
		{http.StatusServiceUnavailable, false, false},
	} {
		t.Run(http.StatusText(c.status), func(t *testing.T) {
			t.Parallel()
			webhook := newWebhook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) })
			err := webhook.Send(t.Context(), "e", nil, "k")
			require.Equal(t, c.sent, err == nil, err)
			if c.refused {
				require.ErrorIs(t, err, notify.ErrRefused)
			} else {
				require.NotErrorIs(t, err, notify.ErrRefused)
			}
		})
	}
}

func TestWebhookWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	webhook := newWebhook(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := webhook.Send(t.Context(), "e", nil, "k")
	require.ErrorContains(t, err, "post a webhook")
	require.NotErrorIs(t, err, notify.ErrRefused)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, webhook.Send(ctx, "e", nil, "k"), context.Canceled)
}
