package service_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
)

func TestOutsideURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"http://sandbox", "https://sandbox:8443/hooks?tenant=1", "http://127.0.0.1:1", "http://[::1]:8090/", "HTTP://sandbox",
	} {
		u, err := service.OutsideURL(good)
		require.NoError(t, err, good)
		require.NotEmpty(t, u.Hostname())
	}
	for _, bad := range []string{
		"", "foo", "sandbox:8090", "//sandbox", "ftp://sandbox", "http://", "http:///path", "http://:8090", "http:sandbox", "http://a b",
		"http://sandbox\n", "http://sandbox/#part", "http://sandbox/%zz", "http://sandbox:0", "http://sandbox:65536", "http://ada:s3cret@sandbox",
	} {
		_, err := service.OutsideURL(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

// outside makes a client and the URL of an HTTP server.
func outside(t *testing.T, answer http.HandlerFunc) (*service.Outside, *url.URL) {
	t.Helper()
	server := httptest.NewServer(answer)
	client := service.NewOutside(time.Minute)
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	u, err := url.Parse(server.URL + "/hooks?key=s3cret")
	require.NoError(t, err)
	return client, u
}

func TestVerdictOfAnAnswer(t *testing.T) {
	t.Parallel()
	away, permanent, plain := "away", "permanent", "plain"
	for status, want := range map[int]string{
		200: away, 202: away, 204: away, 301: away, 302: away, 303: away, 304: away, 307: away, 308: away,
		400: permanent, 401: away, 402: permanent, 403: away, 404: permanent, 405: permanent, 407: away, 408: away, 409: plain,
		410: permanent, 413: permanent, 415: permanent, 421: away, 422: permanent, 425: away, 429: away, 451: permanent,
		500: away, 501: away, 502: away, 503: away, 504: away, 599: away,
	} {
		asked := 0
		client, to := outside(t, func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		answer, err := client.Post(t.Context(), to, http.Header{}, []byte("{}"))
		require.NoError(t, err, status)
		require.Equal(t, status, answer.Status)
		require.Equal(t, 1, asked, "a redirect is not followed")
		refusal := errors.New("refused")
		err = answer.Verdict(refusal)
		require.ErrorIs(t, err, refusal)
		require.Equal(t, want == away, messaging.IsUnavailable(err), status)
		require.Equal(t, want == permanent, messaging.IsPermanent(err), status)
	}
}

func TestNoAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"none": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a part": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, to := outside(t, answer)
			_, err := client.Post(t.Context(), to, http.Header{}, []byte("{}"))
			require.True(t, messaging.IsUnavailable(err), err)
			require.NotContains(t, err.Error(), "s3cret", "a URL may contain a secret")
		})
	}
}
