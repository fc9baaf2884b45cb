package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/pricing-rpc/internal/httpapi"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
)

const token = "operator-secret"

type fixture struct {
	*servicetest.DB
	routes *http.ServeMux
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{DB: servicetest.NewDB(t, postgres.Migrations)}
	api := &httpapi.API{Store: postgres.NewStore(f.DB.DB), OperatorToken: token, Log: zap.NewNop()}
	f.routes = api.Routes()
	return f
}

const body = `{"name":"Mug, large","price":{"amount_minor":1390,"currency":"EUR"}}`

// put sends a price; authorization is the whole header.
func (f *fixture) put(sku, body, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPut, "/v1/prices/"+sku, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", authorization)
	return f.do(r)
}

func (f *fixture) get() *httptest.ResponseRecorder {
	return f.do(httptest.NewRequest(http.MethodGet, "/v1/prices", nil))
}

func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.routes.ServeHTTP(w, r)
	return w
}

// requireProblem checks the status and the names of the fields.
func requireProblem(t *testing.T, w *httptest.ResponseRecorder, status int, fields ...string) {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	var p service.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Field)
	}
	require.Equal(t, fields, got)
}

func TestGet(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.Pool().Exec(t.Context(), `DELETE FROM prices WHERE sku <> 'mug'`)
	require.NoError(t, err)
	w := f.get()
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"version":1,"prices":[
		{"sku":"mug","name":"Mug with a rabbit","price":{"amount_minor":1290,"currency":"EUR"},"version":1}]}`, w.Body.String())

	_, err = f.Pool().Exec(t.Context(), `DELETE FROM prices`)
	require.NoError(t, err)
	require.JSONEq(t, `{"version":1,"prices":[]}`, f.get().Body.String())
}

func TestPut(t *testing.T) {
	t.Parallel()
	f := setup(t)
	w := f.put("mug", body, "Bearer "+token)
	require.Equal(t, http.StatusOK, w.Code)
	want := `{"sku":"mug","name":"Mug, large","price":{"amount_minor":1390,"currency":"EUR"},"version":2}`
	require.JSONEq(t, want, w.Body.String())
	require.Contains(t, f.get().Body.String(), strings.TrimSpace(w.Body.String()))
	require.Equal(t, 1, f.Commits())
}

func TestPutWantsTheToken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, authorization := range []string{"", token, "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, "Bearer " + token + "x"} {
		w := f.put("mug", body, authorization)
		requireProblem(t, w, http.StatusUnauthorized)
		require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
	}
	require.Zero(t, f.Commits())
	require.Contains(t, f.get().Body.String(), `"version":1}`)
}

func TestPutWithoutATokenToCompareWith(t *testing.T) {
	t.Parallel()
	api := &httpapi.API{Log: zap.NewNop()}
	f := &fixture{routes: api.Routes()}
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer x"} {
		requireProblem(t, f.put("mug", body, authorization), http.StatusUnauthorized)
	}
}

func TestPutRefusesTheRequest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	change := func(old, with string) string { return strings.Replace(body, old, with, 1) }
	for _, c := range []struct {
		name, sku, body string
		status          int
		fields          []string
	}{
		{"no JSON", "mug", `{`, 400, nil},
		{"an unknown field", "mug", change(`"name"`, `"sku":"mug","name"`), 400, []string{"sku"}},
		{"a price that is text", "mug", change(`1390`, `"1390"`), 400, []string{"price.amount_minor"}},
		{"a large body", "mug", change("Mug", strings.Repeat("m", 65<<10)), 413, nil},
		{"a wrong SKU", "Mug", body, 422, []string{"sku"}},
		{"a name that no database takes", "mug", change("Mug", `\u0000`), 422, []string{"name"}},
		{"nothing", "mug", `{}`, 422, []string{"name", "price.amount_minor", "price.currency"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireProblem(t, f.put(c.sku, c.body, "Bearer "+token), c.status, c.fields...)
		})
	}
}

func TestNoDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.Pool().Close()
	for _, w := range []*httptest.ResponseRecorder{f.get(), f.put("mug", body, "Bearer "+token)} {
		requireProblem(t, w, http.StatusServiceUnavailable)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	}
	require.Zero(t, f.Commits())
}
