package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/orders/internal/httpapi"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
)

// fixture is the API with a real database. Two SKUs are sold, and each order costs 25.80 EUR.
type fixture struct {
	*httpapi.API
	*servicetest.DB
	waiting int64 // in the outbox
	quote   contract.Money
	noSKUs  error // error of the catalogue
	noQuote error // error of a quote
}

// Knows and Quote make the fixture an order.Pricing.
func (f *fixture) Knows(context.Context) (func(string) bool, error) {
	return func(sku string) bool { return sku == "mug" || sku == "tshirt" }, f.noSKUs
}

func (f *fixture) Quote(context.Context, []order.Item) (contract.Money, error) {
	return f.quote, f.noQuote
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{DB: servicetest.NewDB(t, postgres.Migrations), quote: contract.Money{AmountMinor: 2580, Currency: "EUR"}}
	store := postgres.NewStore(f.DB.DB)
	waiting := func(context.Context) (int64, error) { return f.waiting, nil }
	f.API = &httpapi.API{Service: order.NewService(store, f, waiting, zap.NewNop()), Store: store, Log: zap.NewNop()}
	return f
}

const body = `{"customer_id":"c-1","region":"eu","tier":"express","payment_token":"tok_secret","items":[{"sku":"mug","quantity":2}]}`

// do sends a request; headers has names and values alternately.
func (f *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.Routes().ServeHTTP(w, r)
	return w
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), w.Body.String())
	return v
}

// answer is an order as customers see it.
type answer struct {
	ID         string         `json:"id"`
	Status     string         `json:"status"`
	Tier       string         `json:"tier"`
	Region     string         `json:"region"`
	CustomerID string         `json:"customer_id"`
	Total      contract.Money `json:"total"`
	Items      []order.Item   `json:"items"`
	History    []order.Change `json:"history"`
}

func (f *fixture) place(t *testing.T) answer {
	t.Helper()
	w := f.do(http.MethodPost, "/v1/orders", body)
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	return decode[answer](t, w)
}

// requireProblem checks the status and the names of the fields.
func requireProblem(t *testing.T, w *httptest.ResponseRecorder, status int, fields ...string) {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	p := decode[service.Problem](t, w)
	require.Equal(t, status, p.Status)
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Field)
	}
	require.Equal(t, fields, got)
	require.NotContains(t, w.Body.String(), "tok_secret")
}

func TestPlace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	w := f.do(http.MethodPost, "/v1/orders", body)
	require.Equal(t, http.StatusCreated, w.Code)
	placed := w.Body.String()
	got := decode[answer](t, w)
	require.Equal(t, "/v1/orders/"+got.ID, w.Header().Get("Location"))
	require.Len(t, got.History, 1)
	require.Equal(t, answer{
		ID: got.ID, Status: "placed", Tier: "express", Region: "eu", CustomerID: "c-1",
		Total: contract.Money{AmountMinor: 2580, Currency: "EUR"}, Items: []order.Item{{SKU: "mug", Quantity: 2}}, History: got.History,
	}, got)
	require.NotContains(t, w.Body.String(), "tok_secret")
	require.Equal(t, 1, f.Commits())

	w = f.do(http.MethodGet, "/v1/orders/"+got.ID, "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, placed, w.Body.String(), "the same answer, with the same times")
	requireProblem(t, f.do(http.MethodGet, "/v1/orders/"+uuid.NewString(), ""), http.StatusNotFound)
	requireProblem(t, f.do(http.MethodGet, "/v1/orders/urn:uuid:"+got.ID, ""), http.StatusNotFound)
}

func TestPlaceWithAKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := f.do(http.MethodPost, "/v1/orders", body, "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusCreated, first.Code)

	f.waiting = 1_000_000 // also while new orders are refused
	again := f.do(http.MethodPost, "/v1/orders", body, "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusOK, again.Code)
	require.Equal(t, decode[answer](t, first).ID, decode[answer](t, again).ID)

	other := strings.Replace(body, `"quantity":2`, `"quantity":3`, 1)
	requireProblem(t, f.do(http.MethodPost, "/v1/orders", other, "Idempotency-Key", "k-1"), http.StatusConflict, "Idempotency-Key")
	require.Equal(t, 1, f.Commits())

	f.waiting = 0
	another := f.do(http.MethodPost, "/v1/orders", strings.Replace(body, "c-1", "c-2", 1), "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusCreated, another.Code, "keys of different customers are different")
}

func TestPlaceRefusesTheRequest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	change := func(old, with string) string { return strings.Replace(body, old, with, 1) }
	for _, c := range []struct {
		name    string
		body    string
		headers []string
		status  int
		fields  []string
	}{
		{"no JSON", `{`, nil, 400, nil},
		{"an unknown field", change(`"region"`, `"card_number":"4711","region"`), nil, 400, []string{"card_number"}},
		{"two objects", body + body, nil, 400, nil},
		{"a number that is text", change(`"quantity":2`, `"quantity":"2"`), nil, 400, []string{"items.quantity"}},
		{"a long key", body, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, []string{"Idempotency-Key"}},
		{"an empty key", body, []string{"Idempotency-Key", ""}, 400, []string{"Idempotency-Key"}},
		{"a key that is no text", body, []string{"Idempotency-Key", "\xff"}, 400, []string{"Idempotency-Key"}},
		{"a large body", change("c-1", strings.Repeat("c", 65<<10)), nil, 413, nil},
		{"a form", body, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, nil},
		{"wrong fields", change(`"eu"`, `"mars"`) + "\n", nil, 422, []string{"region"}},
		{"no fields", `{}`, nil, 422, []string{"customer_id", "items", "payment_token", "region", "tier"}},
		{"an unknown SKU", change("mug", "unicorn"), nil, 422, []string{"items[0].sku"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireProblem(t, f.do(http.MethodPost, "/v1/orders", c.body, c.headers...), c.status, c.fields...)
		})
	}
}

func TestPlaceRefusesForNow(t *testing.T) {
	t.Parallel()
	away := errors.Join(order.ErrPricingAway, context.DeadlineExceeded)
	for _, c := range []struct {
		name       string
		mutate     func(f *fixture)
		status     int
		retryAfter string
		fields     []string
	}{
		{"too much waits", func(f *fixture) { f.waiting = 10_001 }, 429, "5", nil},
		{"no catalogue", func(f *fixture) { f.noSKUs = away }, 503, "1", nil},
		{"no quote", func(f *fixture) { f.noQuote = away }, 503, "1", nil},
		{"a quote of nothing", func(f *fixture) { f.quote.AmountMinor = 0 }, 500, "", nil},
		{"a quote in another currency", func(f *fixture) { f.quote.Currency = "USD" }, 500, "", nil},
		{"pricing refuses the items", func(f *fixture) { f.noQuote = order.Invalid{"items[0].sku": "unknown"} }, 422, "", []string{"items[0].sku"}},
		{"no database", func(f *fixture) { f.Pool().Close() }, 503, "1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			c.mutate(f)
			w := f.do(http.MethodPost, "/v1/orders", body)
			requireProblem(t, w, c.status, c.fields...)
			require.Equal(t, c.retryAfter, w.Header().Get("Retry-After"))
			require.Zero(t, f.Commits())
		})
	}

	t.Run("10,000 may wait", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.waiting = 10_000
		f.place(t)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := setup(t)
	cancel := func(id string) *httptest.ResponseRecorder {
		return f.do(http.MethodPost, "/v1/orders/"+id+"/cancel", "")
	}

	t.Run("an order that is not paid", func(t *testing.T) {
		id := f.place(t).ID
		w := cancel(id)
		require.Equal(t, http.StatusAccepted, w.Code)
		require.Equal(t, "cancelled", decode[answer](t, w).Status)
		requireProblem(t, cancel(id), http.StatusConflict)
	})

	t.Run("a paid order, twice", func(t *testing.T) {
		id := f.place(t).ID
		require.NoError(t, f.Do(t.Context(), func(tx *transactional.Tx) error {
			_, _, err := f.Store.Settle(t.Context(), tx, id, order.PaymentCaptured, "")
			return err
		}))
		for range 2 {
			w := cancel(id)
			require.Equal(t, http.StatusAccepted, w.Code)
			require.Equal(t, "paid", decode[answer](t, w).Status)
		}
		var refunds int
		require.NoError(t, f.Pool().QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE key = $1 AND message->>'Type' = $2`,
			id, contract.Refund.Name).Scan(&refunds))
		require.Equal(t, 1, refunds)
	})

	t.Run("no order", func(t *testing.T) {
		requireProblem(t, cancel(uuid.NewString()), http.StatusNotFound)
		requireProblem(t, cancel("42"), http.StatusNotFound)
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	f := setup(t)
	type page struct {
		Orders []answer `json:"orders"`
		Cursor string   `json:"cursor"`
	}
	list := func(query string) page {
		w := f.do(http.MethodGet, "/v1/orders"+query, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		return decode[page](t, w)
	}
	require.JSONEq(t, `{"orders":[]}`, f.do(http.MethodGet, "/v1/orders", "").Body.String())
	oldest, newer, newest := f.place(t), f.place(t), f.place(t)

	first := list("?limit=2")
	require.Equal(t, []string{newest.ID, newer.ID}, []string{first.Orders[0].ID, first.Orders[1].ID})
	second := list("?limit=2&cursor=" + first.Cursor)
	require.Len(t, second.Orders, 1)
	require.Equal(t, oldest.ID, second.Orders[0].ID)
	require.Empty(t, second.Cursor, "the last page")
	require.Len(t, list("?status=placed").Orders, 3)
	require.Empty(t, list("?status=paid").Orders)

	requireProblem(t, f.do(http.MethodGet, "/v1/orders?status=paid;limit=1", ""), http.StatusBadRequest)
	requireProblem(t, f.do(http.MethodGet, "/v1/orders?stauts=paid&limit=0", ""), http.StatusBadRequest, "limit", "stauts")
	for query, field := range map[string]string{
		"?limit=1&limit=2":                 "limit",
		"?status=lost":                     "status",
		"?limit=0":                         "limit",
		"?limit=201":                       "limit",
		"?limit=ten":                       "limit",
		"?cursor=42":                       "cursor",
		"?cursor=urn:uuid:" + first.Cursor: "cursor",
	} {
		requireProblem(t, f.do(http.MethodGet, "/v1/orders"+query, ""), http.StatusBadRequest, field)
	}
}
