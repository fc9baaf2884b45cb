package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"

	"example.com/orderflow/pkg/service"
)

// webhookTimeout bounds one call of the receiver.
const webhookTimeout = 10 * time.Second

// Webhook posts to one receiver. Safe for concurrent use.
type Webhook struct {
	url     *url.URL
	outside *service.Outside
}

// NewWebhook makes a sender to a receiver, see [service.OutsideURL].
func NewWebhook(to *url.URL) *Webhook {
	return &Webhook{to, service.NewOutside(webhookTimeout)}
}

// Send posts the data as JSON, with the dedupe key as Idempotency-Key. Any answer but
// 2xx is an error with its verdict, see [service.Answer.Verdict]; a redirect too.
func (h *Webhook) Send(ctx context.Context, event string, data map[string]any, dedupeKey string) error {
	body := map[string]any{"event": event}
	maps.Copy(body, data)
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a webhook: %w", err)
	}
	header := http.Header{}
	header.Set("Idempotency-Key", dedupeKey)
	answer, err := h.outside.Post(ctx, h.url, header, encoded)
	if err != nil {
		return fmt.Errorf("post a webhook: %w", err)
	}
	if answer.Status < 200 || answer.Status > 299 {
		return answer.Verdict(fmt.Errorf("post a webhook: %d %s", answer.Status, http.StatusText(answer.Status)))
	}
	return nil
}

// Close closes idle connections.
func (h *Webhook) Close() { h.outside.Close() }
