package httpapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/tools/sandbox/internal/fault"
)

// do sends a request, with or without a body.
func (f *fixture) do(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func (f *fixture) set(t *testing.T, name, body string) {
	t.Helper()
	w := f.do(http.MethodPut, "/v1/faults/"+name, body)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
}

func TestFaultsAreSwitches(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.JSONEq(t, `{"faults":[]}`, f.do(http.MethodGet, "/v1/faults", "").Body.String())
	w := f.do(http.MethodPut, "/v1/faults/provider.refuse", `{"value":"401","retry_after":"30"}`)
	require.JSONEq(t, `{"name":"provider.refuse","value":"401","retry_after":"30"}`, w.Body.String())
	f.set(t, "mail.down", `{}`)
	require.JSONEq(t, `{"faults":[{"name":"mail.down"},{"name":"provider.refuse","value":"401","retry_after":"30"}]}`,
		f.do(http.MethodGet, "/v1/faults", "").Body.String())
	for range 2 {
		require.Equal(t, http.StatusNoContent, f.do(http.MethodDelete, "/v1/faults/mail.down", "").Code)
	}
	require.Equal(t, []fault.Fault{{Name: "provider.refuse", Value: "401", RetryAfter: "30"}}, f.faults.List())
	require.Equal(t, http.StatusNoContent, f.do(http.MethodDelete, "/v1/faults", "").Code)
	require.Empty(t, f.faults.List())
}

func TestBadFaults(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		method, name, body string
		status             int
		field              string
	}{
		{http.MethodPut, "provider.sad", `{}`, http.StatusNotFound, ""},
		{http.MethodDelete, "provider.sad", ``, http.StatusNotFound, ""},
		{http.MethodPut, "provider.refuse", `{}`, http.StatusUnprocessableEntity, "value"},
		{http.MethodPut, "provider.refuse", `{"value":401}`, http.StatusBadRequest, "value"},
		{http.MethodPut, "provider.refuse", `{"value":"503","retry_after":"soon"}`, http.StatusUnprocessableEntity, "retry_after"},
		{http.MethodPut, "provider.slow", `{"value":"2"}`, http.StatusUnprocessableEntity, "value"},
		{http.MethodPut, "provider.down", `{"since":"now"}`, http.StatusBadRequest, "since"},
		{http.MethodPut, "provider.down", `nonsense`, http.StatusBadRequest, ""},
	} {
		p := problem(t, f.do(c.method, "/v1/faults/"+c.name, c.body))
		require.Equal(t, c.status, p.Status, c.name+c.body)
		if c.field != "" {
			require.Equal(t, c.field, p.Errors[0].Field, c.name+c.body)
		}
	}
	require.Contains(t, problem(t, f.do(http.MethodPut, "/v1/faults/x", `{}`)).Detail, "provider.accept-broken", "lists all switches")
	require.Empty(t, f.faults.List())
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.set(t, "provider.refuse", `{"value":"401"}`)
	f.set(t, "webhook.refuse", `{"value":"503","retry_after":"7"}`)
	for _, w := range []*httptest.ResponseRecorder{f.capture("p1", "o1", "tok_ok"), f.refund("r1", "p1", "o1")} {
		require.Equal(t, http.StatusUnauthorized, problem(t, w).Status)
		require.Empty(t, w.Header().Get("Retry-After"))
	}
	w := f.post("/webhooks", "k", `{"order_id":"o1"}`)
	require.Equal(t, http.StatusServiceUnavailable, problem(t, w).Status)
	require.Equal(t, "7", w.Header().Get("Retry-After"))
	require.Zero(t, f.list(t, "/v1/captures").Total, "lists still answer, and nothing was captured")
	require.Empty(t, f.list(t, "/v1/webhooks").Webhooks)

	f.set(t, "provider.refuse", `{"value":"302"}`)
	require.Equal(t, "/healthz", f.capture("p1", "o1", "tok_ok").Header().Get("Location"))
	require.Equal(t, http.StatusNoContent, f.do(http.MethodDelete, "/v1/faults", "").Code)
	require.Equal(t, http.StatusCreated, f.capture("p1", "o1", "tok_ok").Code)
}

// send posts over a real connection, which the server may close.
func (f *fixture) send(t *testing.T, path, body string) (status int, answer string, err error) {
	t.Helper()
	server := httptest.NewServer(f)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "p1")
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	read, err := io.ReadAll(res.Body)
	return res.StatusCode, string(read), err
}

const aCapture = `{"order_id":"o1","payment_token":"tok_ok","amount":{"amount_minor":1999,"currency":"EUR"}}`

func TestDown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.set(t, "provider.down", `{}`)
	f.set(t, "webhook.down", `{}`)
	_, _, err := f.send(t, "/v1/captures", aCapture)
	require.ErrorIs(t, err, io.EOF)
	_, _, err = f.send(t, "/webhooks", `{"order_id":"o1"}`)
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, f.list(t, "/v1/captures").Total)
	require.Empty(t, f.list(t, "/v1/webhooks").Webhooks)
}

func TestSlow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.set(t, "provider.slow", `{"value":"300ms"}`)
	started := time.Now()
	require.Equal(t, http.StatusCreated, f.capture("p1", "o1", "tok_ok").Code)
	require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
	require.Equal(t, http.StatusRequestEntityTooLarge, f.post("/v1/captures", "p2", `{"order_id":"`+strings.Repeat("x", 70<<10)+`"}`).Code)
}

// The money moves, but the answer breaks off.
func TestAcceptBroken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.set(t, "provider.accept-broken", `{}`)
	status, answer, err := f.send(t, "/v1/captures", aCapture)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	require.False(t, json.Valid([]byte(answer)), answer)
	require.Equal(t, 1, f.list(t, "/v1/captures").Total)
	require.Equal(t, http.StatusPaymentRequired, problem(t, f.capture("p2", "o2", "tok_declined")).Status, "a refusal is complete")
}

func TestASilentTokenNeverAnswers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	server := httptest.NewServer(f)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 300 * time.Millisecond}
	defer client.CloseIdleConnections()
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/captures",
			strings.NewReader(strings.Replace(aCapture, "tok_ok", "tok_silent", 1)))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "p1")
		_, err = client.Do(req)
		require.ErrorContains(t, err, "Client.Timeout")
	}
	require.Zero(t, f.list(t, "/v1/captures").Total)
}
