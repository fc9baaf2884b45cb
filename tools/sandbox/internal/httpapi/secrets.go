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

// maxAge is how far from now a webhook may have been signed.
const maxAge = 5 * time.Minute

// keyed wants the provider's key, if there is one.
func (a *api) keyed(handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.secrets.ProviderKey != "" && !a.secrets.ProviderKey.Authorizes(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			p := service.NewProblem(http.StatusUnauthorized, "the provider's key is wanted")
			p.Code = "unknown_key"
			return p
		}
		return handle(w, r)
	}
}

// signed wants a good signature, if there is a secret to sign with.
func (a *api) signed(handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.secrets.Webhook == "" {
			return handle(w, r)
		}
		body, err := io.ReadAll(r.Body) // which faulty has bounded
		if err != nil || !isSigned(r.Header, body, a.secrets.Webhook, time.Now()) {
			p := service.NewProblem(http.StatusUnauthorized, "the webhook is not signed, or not by us, or not now")
			p.Code = "bad_signature"
			return p
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return handle(w, r)
	}
}

// isSigned says whether one of the signatures (https://www.standardwebhooks.com) is that
// of the headers and the body.
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
