package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/internal/fault"
	"example.com/orderflow/tools/sandbox/internal/httpapi"
	"example.com/orderflow/tools/sandbox/internal/postgres"
)

// fixture is the API with its own database.
type fixture struct {
	*http.ServeMux
	store  *postgres.Store
	pool   *pgxpool.Pool
	faults *fault.Switches
}

func setup(t *testing.T) *fixture {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, service.Migrate(t.Context(), pool, service.Migrations{VersionTable: "sandbox_version", Files: postgres.Migrations}))
	store := postgres.NewStore(pool)
	faults := &fault.Switches{}
	return &fixture{httpapi.Routes(store, httpapi.Secrets{}, faults, zap.NewNop()), store, pool, faults}
}

func (f *fixture) post(path, key, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// capture requests a capture of 19.99 EUR.
func (f *fixture) capture(key, order, token string) *httptest.ResponseRecorder {
	return f.post("/v1/captures", key, `{"order_id":"`+order+`","payment_token":"`+token+`","amount":{"amount_minor":1999,"currency":"EUR"}}`)
}

func (f *fixture) refund(key, payment, order string) *httptest.ResponseRecorder {
	return f.post("/v1/refunds", key, `{"payment_id":"`+payment+`","order_id":"`+order+`","amount":{"amount_minor":1999,"currency":"EUR"}}`)
}

type lists struct {
	Captures []postgres.Movement `json:"captures"`
	Refunds  []postgres.Movement `json:"refunds"`
	Webhooks []postgres.Webhook  `json:"webhooks"`
	Mails    []postgres.Mail     `json:"mails"`
	Total    int                 `json:"total"`
}

func (f *fixture) list(t *testing.T, path string) (l lists) {
	t.Helper()
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.NotContains(t, w.Body.String(), "null")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &l))
	return l
}

func problem(t *testing.T, w *httptest.ResponseRecorder) (p service.Problem) {
	t.Helper()
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, w.Code, p.Status)
	return p
}

func TestTokens(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		token  string
		status []int // of one call after another
		code   string
	}{
		{"tok_ok", []int{201, 200}, ""},
		{"tok_declined", []int{402, 402}, "card_declined"},
		{"tok_broken", []int{422, 422}, "token_broken"},
		{"tok_flaky_2", []int{409, 409, 201, 200}, "try_again"},
		{"tok_flaky_0", []int{201}, ""},
		{"tok_slow_50", []int{201, 200}, ""},
		{"tok_unheard_of", []int{422}, ""},
		{"", []int{422}, ""},
	} {
		t.Run(c.token, func(t *testing.T) {
			t.Parallel()
			captured := 0
			for _, want := range c.status {
				w := f.capture("p-"+c.token, "o-"+c.token, c.token)
				require.Equal(t, want, w.Code, w.Body)
				if want < 300 {
					captured = 1
				} else {
					require.Equal(t, c.code, problem(t, w).Code)
				}
			}
			require.Equal(t, captured, f.list(t, "/v1/captures?order_id=o-"+c.token).Total)
		})
	}
}

func TestFlakyCountsPerKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, key := range []string{"p1", "p2"} {
		require.Equal(t, http.StatusConflict, f.capture(key, "o1", "tok_flaky_1").Code)
	}
	for _, key := range []string{"p1", "p2"} {
		require.Equal(t, http.StatusCreated, f.capture(key, "o1", "tok_flaky_1").Code)
	}
}

func TestSlowTakesItsTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started := time.Now()
	require.Equal(t, http.StatusCreated, f.capture("p1", "o1", "tok_slow_300").Code)
	require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
	started = time.Now()
	require.Equal(t, http.StatusOK, f.capture("p1", "o1", "tok_slow_30000").Code)
	require.Less(t, time.Since(started), 10*time.Second, "a second call does not wait")
}

// It is slower than other requests may be, and the caller disconnects before.
func TestWhoHangsUpIsChargedOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	server := httptest.NewServer(f)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	const body = `{"order_id":"o1","payment_token":"tok_slow_5500","amount":{"amount_minor":1999,"currency":"EUR"}}`
	_, err = fmt.Fprintf(conn, "POST /v1/captures HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: p1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		return f.list(t, "/v1/captures").Total == 1, "nothing is captured"
	})
	require.Equal(t, http.StatusOK, f.capture("p1", "o1", "tok_slow_5500").Code, "the earlier capture")
	require.Equal(t, 1, f.list(t, "/v1/captures").Total)
}

func TestCaptureOncePerKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	status := make([]int, 8)
	var wg sync.WaitGroup
	for i := range status {
		wg.Go(func() { status[i] = f.capture("p1", "o1", "tok_slow_20").Code })
	}
	wg.Wait()
	require.ElementsMatch(t, []int{201, 200, 200, 200, 200, 200, 200, 200}, status)

	other := f.post("/v1/captures", "p1", `{"order_id":"o1","payment_token":"tok_ok","amount":{"amount_minor":1,"currency":"EUR"}}`)
	for _, w := range []*httptest.ResponseRecorder{f.capture("p1", "o2", "tok_ok"), other} {
		p := problem(t, w)
		require.Equal(t, "422 key_reused", fmt.Sprint(p.Status, " ", p.Code), "the key of another order or amount")
	}

	l := f.list(t, "/v1/captures")
	require.Equal(t, 1, l.Total)
	require.Equal(t, "p1", l.Captures[0].PaymentID)
	require.Equal(t, postgres.Amount{AmountMinor: 1999, Currency: "EUR"}, l.Captures[0].Amount)
}

func TestRefund(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.Equal(t, "no_capture", problem(t, f.refund("r1", "p1", "o1")).Code)
	require.Equal(t, http.StatusCreated, f.capture("p1", "o1", "tok_ok").Code)
	require.Equal(t, http.StatusCreated, f.refund("r1", "p1", "o1").Code)
	require.Equal(t, http.StatusOK, f.refund("r1", "p1", "o1").Code)
	require.Equal(t, "key_reused", problem(t, f.refund("r1", "p1", "o2")).Code, "the key of another order")
	l := f.list(t, "/v1/refunds?order_id=o1")
	require.Equal(t, 1, l.Total)
	require.Equal(t, "r1", l.Refunds[0].Key)
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.Equal(t, http.StatusNoContent, f.post("/webhooks", "k1", `{"order_id":"o1","event":"order-placed"}`).Code)
	require.Equal(t, http.StatusNoContent, f.post("/webhooks", "k1", `{"order_id":"o1","event":"order-placed"}`).Code)
	require.Equal(t, http.StatusNoContent, f.post("/webhooks", "", `{"event":"of no order"}`).Code)
	l := f.list(t, "/v1/webhooks?order_id=o1").Webhooks
	require.Len(t, l, 2, "copies are kept")
	require.Equal(t, "k1", l[0].DedupeKey)
	require.JSONEq(t, `{"order_id":"o1","event":"order-placed"}`, string(l[0].Body))
}

func TestLists(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, path := range []string{"/v1/captures", "/v1/refunds", "/v1/mails", "/v1/webhooks"} {
		require.Equal(t, 0, f.list(t, path).Total)
	}
	for _, order := range []string{"o1", "o2", "o3"} {
		require.Equal(t, http.StatusCreated, f.capture("p-"+order, order, "tok_ok").Code)
		require.NoError(t, f.store.AddMail(t.Context(), postgres.Mail{To: order + "@example.com", Subject: "paid"}))
	}
	l := f.list(t, "/v1/captures?limit=1")
	require.Equal(t, 3, l.Total)
	require.Len(t, l.Captures, 1)
	require.Equal(t, "o3", l.Captures[0].OrderID, "the newest")
	require.Len(t, f.list(t, "/v1/captures?limit=nonsense").Captures, 3)
	require.Len(t, f.list(t, "/v1/mails").Mails, 3)
	mails := f.list(t, "/v1/mails?to=o2@example.com").Mails
	require.Len(t, mails, 1)
	require.Equal(t, "paid", mails[0].Subject)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const amount = `"amount":{"amount_minor":1,"currency":"EUR"}`
	for _, c := range []struct {
		name, path, key, body string
		status                int
		field                 string
	}{
		{"no key", "/v1/captures", "", `{}`, http.StatusBadRequest, "Idempotency-Key"},
		{"no key", "/v1/refunds", "", `{}`, http.StatusBadRequest, "Idempotency-Key"},
		{"no JSON", "/v1/captures", "k", `nonsense`, http.StatusBadRequest, ""},
		{"no JSON", "/v1/refunds", "k", `nonsense`, http.StatusBadRequest, ""},
		{"no JSON", "/webhooks", "k", `nonsense`, http.StatusBadRequest, ""},
		{"no order", "/v1/captures", "k", `{"payment_token":"tok_ok",` + amount + `}`, http.StatusUnprocessableEntity, "order_id"},
		{"no order", "/v1/refunds", "k", `{"payment_id":"p1",` + amount + `}`, http.StatusUnprocessableEntity, "order_id"},
		{"no amount", "/v1/captures", "k", `{"order_id":"o1"}`, http.StatusUnprocessableEntity, "amount.amount_minor"},
		{"no currency", "/v1/captures", "k", `{"order_id":"o1","amount":{"amount_minor":1}}`, http.StatusUnprocessableEntity, "amount.currency"},
		{"NUL in the order", "/v1/captures", "k", `{"order_id":"a\u0000b","payment_token":"tok_ok",` + amount + `}`, http.StatusUnprocessableEntity, ""},
		{"NUL in the payment", "/v1/refunds", "k", `{"payment_id":"a\u0000b","order_id":"o1",` + amount + `}`, http.StatusUnprocessableEntity, ""},
		{"a key that is no UTF-8", "/v1/captures", "\xff", `{"order_id":"o1","payment_token":"tok_ok",` + amount + `}`, http.StatusUnprocessableEntity, ""},
		{"NUL in a token", "/v1/captures", "k", `{"order_id":"o1","payment_token":"tok_\u0000ok",` + amount + `}`, http.StatusUnprocessableEntity, "payment_token"},
		{"a token that is no UTF-8", "/v1/captures", "k", "{\"order_id\":\"o1\",\"payment_token\":\"tok_\xff\"," + amount + "}", http.StatusBadRequest, "payment_token"},
		{"NUL in a webhook", "/webhooks", "k", `{"order_id":"a\u0000b"}`, http.StatusUnprocessableEntity, ""},
		{"unknown token", "/v1/captures", "k", `{"order_id":"o1","payment_token":"visa",` + amount + `}`, http.StatusUnprocessableEntity, "payment_token"},
	} {
		t.Run(c.name+" "+c.path, func(t *testing.T) {
			t.Parallel()
			p := problem(t, f.post(c.path, c.key, c.body))
			require.Equal(t, c.status, p.Status)
			if c.field != "" {
				require.Equal(t, c.field, p.Errors[0].Field)
			}
		})
	}
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.pool.Close()
	for _, w := range []*httptest.ResponseRecorder{
		f.capture("p1", "o1", "tok_declined"), f.refund("r1", "p1", "o1"), f.post("/webhooks", "k", `{}`),
	} {
		require.Equal(t, http.StatusServiceUnavailable, problem(t, w).Status, "nothing is decided without the database")
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	}
}
