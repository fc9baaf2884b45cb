package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"example.com/orderflow/pkg/service"
)

// webhookTimeout limits one call to the receiver.
const webhookTimeout = 10 * time.Second

// Webhook sends webhooks to one receiver. Safe for concurrent use.
type Webhook struct {
	url     *url.URL
	secret  service.Secret
	outside *service.Outside
}

// NewWebhook makes a sender for the receiver at the URL, see [service.OutsideURL]. If the
// secret is not empty, it signs webhooks.
func NewWebhook(to *url.URL, secret service.Secret) *Webhook {
	return &Webhook{to, secret, service.NewOutside(webhookTimeout)}
}

// Send posts the data as JSON, with the dedupe key as Idempotency-Key. Any answer but 2xx, also
// a redirect, is an error that is marked with its verdict, see [service.Answer.Verdict].
//
// With a secret, there are three more headers, as https://www.standardwebhooks.com specifies:
// Webhook-Id, the dedupe key; Webhook-Timestamp, in seconds; and Webhook-Signature,
// "v1," and the base64 of the HMAC-SHA256 over "<id>.<timestamp>.<body>".
func (h *Webhook) Send(ctx context.Context, event string, data map[string]any, dedupeKey string) error {
	body := map[string]any{"event": event}
	maps.Copy(body, data)
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a webhook: %w", err)
	}
	header := http.Header{}
	header.Set("Idempotency-Key", dedupeKey)
	if h.secret != "" {
		h.sign(header, dedupeKey, strconv.FormatInt(time.Now().Unix(), 10), encoded)
	}
	answer, err := h.outside.Post(ctx, h.url, header, encoded)
	if err != nil {
		return fmt.Errorf("post a webhook: %w", err)
	}
	if answer.Status < 200 || answer.Status > 299 {
		return answer.Verdict(fmt.Errorf("post a webhook: %d %s", answer.Status, http.StatusText(answer.Status)))
	}
	return nil
}

func (h *Webhook) sign(header http.Header, id, timestamp string, body []byte) {
	mac := hmac.New(sha256.New, []byte(h.secret))
	mac.Write([]byte(id + "." + timestamp + ".")) // a hash never fails
	mac.Write(body)
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// Close closes idle connections.
func (h *Webhook) Close() { h.outside.Close() }
