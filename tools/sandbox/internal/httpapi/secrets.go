package httpapi

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/orderflow/pkg/service"
)

// maxAge is the largest difference between now and a webhook's timestamp.
const maxAge = 5 * time.Minute

// keyed requires the provider's key, if one is set.
func (a *api) keyed(handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.secrets.ProviderKey != "" && !a.secrets.ProviderKey.Authorizes(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			p := service.NewProblem(http.StatusUnauthorized, "the provider's key is required")
			p.Code = "unknown_key"
			return p
		}
		return handle(w, r)
	}
}

// signed requires a valid signature, if a secret is set.
func (a *api) signed(handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.secrets.Webhook == "" {
			return handle(w, r)
		}
		body, err := io.ReadAll(r.Body) // faulty has limited it
		if err != nil || !isSigned(r.Header, body, a.secrets.Webhook, time.Now()) {
			p := service.NewProblem(http.StatusUnauthorized, "the webhook is not signed, has a wrong signature, or an old timestamp")
			p.Code = "bad_signature"
			return p
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return handle(w, r)
	}
}

// isSigned says whether one of the signatures (https://www.standardwebhooks.com) is valid for
// the headers and the body.
func isSigned(h http.Header, body []byte, secret service.Secret, now time.Time) bool {
	id, timestamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > maxAge {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for given := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(given), []byte(want)) {
			return true
		}
	}
	return false
}
