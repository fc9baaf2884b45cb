package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrRefused says that the receiver will never take this notification.
var ErrRefused = errors.New("the receiver refuses the notification")

// Webhook posts to one receiver.
type Webhook struct {
	url  string
	http *http.Client
}

// NewWebhook makes a sender.
func NewWebhook(url string) *Webhook {
	return &Webhook{url: url, http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}}
}

// Send posts the data as JSON, with the dedupe key as Idempotency-Key. A 4xx other
// than 408 and 429 is [ErrRefused]; all else is worth another try.
func (h *Webhook) Send(ctx context.Context, event string, data map[string]any, dedupeKey string) error {
	body := map[string]any{"event": event}
	for k, v := range data {
		body[k] = v
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(encoded))
	if err != nil {
		return fmt.Errorf("post a webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", dedupeKey)
	res, err := h.http.Do(req)
	if err != nil {
		return fmt.Errorf("post a webhook: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is kept
	switch {
	case res.StatusCode < 300:
		return nil
	case res.StatusCode >= 400 && res.StatusCode < 500 && res.StatusCode != http.StatusRequestTimeout && res.StatusCode != http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", ErrRefused, res.Status)
	default:
		return fmt.Errorf("post a webhook: %s", res.Status)
	}
}

// Close closes idle connections.
func (h *Webhook) Close() { h.http.CloseIdleConnections() }
