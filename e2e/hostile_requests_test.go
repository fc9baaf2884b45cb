package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
)

// internals are words that must not be in an answer.
var internals = regexp.MustCompile(`\bjson: |(?i)goroutine|panic|runtime|\.go\b|\bpgx|sqlstate|postgres|amqp|rabbit|127\.0\.0\.1|unmarshal|tok_|` + operatorToken)

// A bad request is refused with an error that its sender can understand, and has no effect. It
// also leaves no goroutine, which TestMain checks.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	pricing, orders, billing, notifier := s.startPricing(), s.startOrders(), s.startBilling(4), s.startNotifier()
	sandbox := &process{URL: "http://" + s.sandbox.Addr()}

	status, _, answer, err := s.try(orders.URL, usedKey, goodOrder)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	var used orderView
	require.NoError(t, json.Unmarshal(answer, &used))
	s.becomes(used.ID, "paid")
	s.eventuallySame([]string{"Order " + used.ID + " is paid", "Receipt for order " + used.ID}, func() []string { return s.subjects("ada") })
	before, prices := s.settled(), s.prices()

	slow := make(chan error, 1)
	go func() { slow <- sendSlowly(orders) }()

	rows, perCategory := 0, map[string]int{}
	try := func(name string, p *process, list []badRequest) {
		for i, row := range list {
			rows++
			perCategory[row.category]++
			t.Run(fmt.Sprintf("%s %s %d", name, row.category, i), func(t *testing.T) {
				row.bytes = strings.NewReplacer("{id}", used.ID, "{ID}", strings.ToUpper(used.ID)).Replace(row.bytes)
				row.try(t, p)
			})
		}
	}
	for name, p := range map[string]*process{"orders": orders, "pricing": pricing, "billing": billing, "notifier": notifier} {
		try(name, p, raw)
	}
	try("orders", orders, toOrders)
	try("pricing", pricing, toPricing)
	try("sandbox", sandbox, toSandbox)
	require.Greater(t, rows, 60)
	for _, category := range []string{"body", "large body", "content type", "idempotency key", "id", "query", "smuggling", "wrong host", "foreign page", "operator's token"} {
		require.Positive(t, perCategory[category], category)
	}
	require.NoError(t, <-slow)

	require.Equal(t, before, s.settled(), "nothing was effected")
	require.Equal(t, prices, s.prices())
	for queue := range kinds {
		s.depth(queue, 0)
		s.depth(queue+".dead", 0)
	}
	require.Empty(t, s.logs.FilterLevelExact(zap.ErrorLevel).All(), "nothing got as far as to fail there")

	// And all services work: the largest possible order is paid, and a price is set.
	largest := order("customer_id", `"grace"`)
	largest += strings.Repeat(" ", limit-len(largest))
	status, _, answer, err = s.try(orders.URL, "", largest)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status, string(answer))
	var o orderView
	require.NoError(t, json.Unmarshal(answer, &o))
	s.becomes(o.ID, "paid")
	s.eventuallySame([]string{"Order " + o.ID + " is paid", "Receipt for order " + o.ID}, func() []string { return s.subjects("grace") })
	badRequest{bytes: put("mug", goodPrice, bearer), status: http.StatusOK}.try(t, pricing)
	require.NotEqual(t, prices, s.prices())
}

// try sends the request and checks the answer.
func (b badRequest) try(t *testing.T, p *process) {
	t.Helper()
	res, body, err := send(p, b.bytes, b.category == "cut off")
	require.NoError(t, err)
	require.Equal(t, b.status, res.StatusCode, body)
	contentType := res.Header.Get("Content-Type")
	switch {
	case b.status == http.StatusOK:
		require.Equal(t, "application/json", contentType)
		return
	case b.status == http.StatusTemporaryRedirect:
		require.Regexp(t, `^/v1/(orders|prices)\b`, res.Header.Get("Location"), "what was meant, and here")
		return
	case strings.HasPrefix(contentType, "text/plain"): // from net/http: it was not a valid request
		require.Contains(t, []string{"malformed HTTP", "large header", "smuggling"}, b.category)
		require.Less(t, len(body), 100, body)
	default:
		require.Equal(t, "application/problem+json", contentType)
		var problem service.Problem
		require.NoError(t, json.Unmarshal([]byte(body), &problem))
		require.Equal(t, b.status, problem.Status)
		require.Equal(t, "about:blank", problem.Type)
		require.Equal(t, http.StatusText(b.status), problem.Title)
		require.NotEmpty(t, problem.Detail)
		var fields []string
		for _, f := range problem.Errors {
			require.NotEmpty(t, f.Detail)
			fields = append(fields, f.Field)
		}
		require.Equal(t, b.field, strings.Join(fields, ","), body)
	}
	if b.category == "smuggling" {
		require.True(t, res.Close, "what follows is not read")
	}
	require.NotRegexp(t, internals, body)
	require.NotRegexp(t, internals, fmt.Sprint(res.Header))
	require.Equal(t, b.status == http.StatusMethodNotAllowed, res.Header.Get("Allow") != "")
	require.Equal(t, b.status == http.StatusUnauthorized, res.Header.Get("WWW-Authenticate") != "")
	require.Empty(t, res.Header.Get("Location"))
}

// send writes bytes to a service, and reads one answer.
func send(p *process, request string, cutOff bool) (*http.Response, string, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, "", err
	}
	_, _ = io.WriteString(conn, request) // the server may close the connection before the end
	if tcp, ok := conn.(*net.TCPConn); ok && cutOff {
		if err := tcp.CloseWrite(); err != nil {
			return nil, "", err
		}
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// sendSlowly sends an incomplete order, until the server closes the connection.
func sendSlowly(p *process) error {
	res, body, err := send(p, "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n"+asJSON+"\r\nContent-Length: 999\r\n\r\n"+goodOrder, false)
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusRequestTimeout || internals.MatchString(body):
		return fmt.Errorf("%d %s", res.StatusCode, body)
	default:
		return nil
	}
}

// settled waits until the outboxes and queues are empty, and returns the effects.
func (s *system) settled() map[string]int {
	s.t.Helper()
	var effects map[string]int
	messagingtest.Eventually(s.t, 30*time.Second, func() (bool, string) {
		effects = s.effects()
		waiting := effects["orders: outbox"] + effects["billing: outbox"] + effects["notifier: outbox"]
		return waiting == 0, fmt.Sprint(effects)
	})
	return effects
}

// prices is the whole catalogue, with its version.
func (s *system) prices() string {
	s.t.Helper()
	status, body := s.get(s.pricing.URL + "/v1/prices")
	require.Equal(s.t, http.StatusOK, status, body)
	return body
}
