package service_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/service"
)

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

type basket struct {
	Name  string `json:"name"`
	Items []item `json:"items"`
}

func decode(contentType, body string) (basket, error) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	var b basket
	err := service.DecodeJSON(httptest.NewRecorder(), r, &b)
	return b, err
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	got, err := decode("application/json; charset=utf-8", `{"name":"ada","items":[{"sku":"mug","quantity":2}]}`+"\n")
	require.NoError(t, err)
	require.Equal(t, basket{"ada", []item{{"mug", 2}}}, got)

	_, err = decode("application/json", `{}`+strings.Repeat(" ", 64<<10-2))
	require.NoError(t, err, "the largest")
}

func TestDecodeJSONRefuses(t *testing.T) {
	t.Parallel()
	const json = "application/json"
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		want                    string // part of the detail, or the field and what is wrong with it
	}{
		{"no content type", "", `{}`, http.StatusUnsupportedMediaType, "application/json"},
		{"another content type", "text/plain", `{}`, http.StatusUnsupportedMediaType, "application/json"},
		{"another charset", "application/json; charset=utf-16", `{}`, http.StatusUnsupportedMediaType, "UTF-8"},
		{"too large", json, `{"name":"` + strings.Repeat("a", 64<<10) + `"}`, http.StatusRequestEntityTooLarge, "65536"},
		{"too large by what follows", json, `{}` + strings.Repeat(" ", 64<<10-1), http.StatusRequestEntityTooLarge, "65536"},
		{"nothing", json, ``, http.StatusBadRequest, "one JSON object"},
		{"cut off", json, `{"name":`, http.StatusBadRequest, "unexpected EOF"},
		{"null", json, `null`, http.StatusBadRequest, "one JSON object"},
		{"a list", json, `[]`, http.StatusBadRequest, "one JSON object"},
		{"not a string", json, `{"name":1}`, http.StatusBadRequest, "name must be a string"},
		{"not a list", json, `{"items":{}}`, http.StatusBadRequest, "items must be a list"},
		{"not a whole number", json, `{"items":[{"quantity":1.5}]}`, http.StatusBadRequest, "items.quantity must be a whole number in its range"},
		{"a field that is not there", json, `{"nickname":"ada"}`, http.StatusBadRequest, "nickname there is no such field"},
		{"a field in capitals", json, `{"items":[{"sku":"mug"},{"SKU":"mug"}]}`, http.StatusBadRequest, "items[1].SKU there is no such field"},
		{"a field in letters that fold", json, `{"items":[{"ſku":"mug"}]}`, http.StatusBadRequest, "items[0].ſku there is no such field"},
		{"a field twice", json, `{"name":"ada","items":[],"name":"bob"}`, http.StatusBadRequest, "name is given more than once"},
		{"no UTF-8", json, "{\"name\":\"\xff\"}", http.StatusBadRequest, "name must be Unicode"},
		{"half a character", json, `{"items":[{"sku":"\ud800"}]}`, http.StatusBadRequest, "items[0].sku must be Unicode"},
		{"two objects", json, `{} {}`, http.StatusBadRequest, "nothing else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(c.contentType, c.body)
			var p *service.Problem
			require.ErrorAs(t, err, &p)
			require.Equal(t, c.status, p.Status)
			said := p.Detail
			for _, f := range p.Errors {
				said += " " + f.Field + " " + f.Detail
			}
			require.Contains(t, said, c.want)
		})
	}
}

func TestProblem(t *testing.T) {
	t.Parallel()
	t.Run("as an answer", func(t *testing.T) {
		t.Parallel()
		w := httptest.NewRecorder()
		service.NewProblem(http.StatusUnprocessableEntity, "no such SKU", service.FieldError{Field: "items", Detail: "unknown"}).Write(w)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.Empty(t, w.Header().Get("Retry-After"))
		require.JSONEq(t, `{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"no such SKU",
			"errors":[{"field":"items","detail":"unknown"}]}`, w.Body.String())
	})
	t.Run("with Retry-After, rounded up", func(t *testing.T) {
		t.Parallel()
		w := httptest.NewRecorder()
		service.NewProblem(http.StatusServiceUnavailable, "later").After(1100 * time.Millisecond).Write(w)
		require.Equal(t, "2", w.Header().Get("Retry-After"))
		require.NotContains(t, w.Body.String(), "errors")
	})
	t.Run("as an error", func(t *testing.T) {
		t.Parallel()
		err := error(service.NewProblem(http.StatusNotFound, "no such order"))
		require.EqualError(t, err, "404 Not Found: no such order")
	})
}
