package service_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
)

// ask sends a request to an address, with these headers; Host is one of them.
func ask(t *testing.T, method, url string, headers map[string]string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+url, nil)
	require.NoError(t, err)
	for name, value := range headers {
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value
		}
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	if res.StatusCode >= http.StatusBadRequest {
		require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
	}
	return res.StatusCode
}

func things() *http.ServeMux {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /things", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("POST /things", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("PUT /things", func(http.ResponseWriter, *http.Request) {})
	return routes
}

// A page whose own name resolves to this machine is refused (DNS rebinding).
func TestHosts(t *testing.T) {
	t.Parallel()
	const ok, wrong = http.StatusOK, http.StatusMisdirectedRequest
	config := anyPorts
	config.AllowedHosts = []string{"Shop.example.com", "fd00::7"}
	s := listen(t, config, service.NewRegistry())
	s.Start(things())
	for host, want := range map[string]struct{ public, admin int }{
		"localhost":             {ok, ok},
		"localhost:8081":        {ok, ok},
		"LOCALHOST.:8081":       {ok, ok},
		"127.0.0.1:8081":        {ok, ok},
		"127.9.9.9":             {ok, ok},
		"[::1]:8081":            {ok, ok},
		"[::1]":                 {ok, ok},
		"orders:8081":           {ok, ok}, // its own name
		"shop.example.com":      {ok, ok},
		"[fd00::7]:8081":        {ok, ok},
		"172.18.0.5:9081":       {wrong, ok}, // DNS rebinding needs a name, and Prometheus uses addresses
		"[fd00::8]:9081":        {wrong, ok},
		"evil.example":          {wrong, wrong},
		"evil.example:8081":     {wrong, wrong},
		"localhost.evil":        {wrong, wrong},
		"127.0.0.1.evil:8081":   {wrong, wrong},
		"xshop.example.com":     {wrong, wrong},
		"shop.example.com.evil": {wrong, wrong},
		"billing":               {wrong, wrong},
	} {
		headers := map[string]string{"Host": host}
		require.Equal(t, want.public, ask(t, http.MethodGet, s.Addr()+"/things", headers), host)
		require.Equal(t, want.public, ask(t, http.MethodPost, s.Addr()+"/things", headers), host)
		require.Equal(t, want.admin, ask(t, http.MethodGet, s.AdminAddr()+"/metrics", headers), host)
		require.Equal(t, ok, ask(t, http.MethodGet, s.Addr()+"/healthz", headers), "health checks of containers use any name")
		require.Equal(t, ok, ask(t, http.MethodGet, s.Addr()+"/readyz", headers), host)
	}

	config.AllowedHosts = []string{"*"}
	s = listen(t, config, service.NewRegistry())
	s.Start(things())
	require.Equal(t, ok, ask(t, http.MethodGet, s.Addr()+"/things", map[string]string{"Host": "any.example"}))
}

func TestAllowedHostsAreNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"http://shop.example.com", "shop.example.com:443", "*.example.com", "shop/", "", "a b"} {
		config := anyPorts
		config.AllowedHosts = []string{"shop.example.com", bad}
		_, err := service.NewServer(t.Context(), "orders", config, zap.NewNop(), service.NewRegistry())
		require.ErrorContains(t, err, "ALLOWED_HOSTS", bad)
	}
}

// A web page of another origin cannot make a browser send a request that changes something.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	s := serve(t, things(), service.NewRegistry())
	for _, c := range []struct {
		name    string
		headers map[string]string
		want    int // for requests that change something; reading is allowed
	}{
		{"no browser", nil, http.StatusOK},
		{"a page of ours", map[string]string{"Sec-Fetch-Site": "same-origin"}, http.StatusOK},
		{"an address that somebody has typed", map[string]string{"Sec-Fetch-Site": "none"}, http.StatusOK},
		{"a foreign page", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, http.StatusForbidden},
		{"a page of another port", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, http.StatusForbidden},
		{"a foreign page in an old browser", map[string]string{"Origin": "https://evil.example"}, http.StatusForbidden},
		{"a file, or a frame in a sandbox", map[string]string{"Origin": "null"}, http.StatusForbidden},
		{"a page of ours in an old browser", map[string]string{"Origin": "http://" + s.Addr()}, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, ask(t, http.MethodPost, s.Addr()+"/things", c.headers))
			require.Equal(t, c.want, ask(t, http.MethodPut, s.Addr()+"/things", c.headers))
			require.Equal(t, http.StatusOK, ask(t, http.MethodGet, s.Addr()+"/things", c.headers))
		})
	}
}
