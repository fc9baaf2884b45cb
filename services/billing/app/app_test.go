package app_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/billing/app"
	sandbox "example.com/orderflow/tools/sandbox/app"
)

const password = "test-only"

// fixture is billing between a real broker, a real database and the real sandbox.
type fixture struct {
	broker *messagingtest.BrokerInfo
	events *amqp.Channel
	orders *messaging.Publisher
	http   *http.Client
	shop   string // the sandbox's URL
	url    string // billing's
	admin  string
}

var listen = service.HTTPConfig{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"}

func setup(t *testing.T) *fixture {
	t.Helper()
	return setupWith(t, with{})
}

// with is how a fixture differs from the real system.
type with struct {
	provider string        // its URL, in place of the sandbox's
	timeout  time.Duration // of one call
	retry    time.Duration // of a charge that has failed
	log      *zap.Logger   // of billing
}

func setupWith(t *testing.T, c with) *fixture {
	t.Helper()
	f := &fixture{broker: messagingtest.Broker(t), http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(f.http.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topology := contract.All(0)
	if c.retry > 0 {
		i := slices.IndexFunc(topology.Queues, func(q messaging.Queue) bool { return q.Name == contract.BillingCharge.Name })
		topology.Queues[i].Retry.MinDelay, topology.Queues[i].Retry.MaxDelay = c.retry, c.retry
	}
	require.NoError(t, messaging.Apply(ctx, f.broker.Admin(), topology))
	require.NoError(t, messaging.ApplyUsers(ctx, f.broker.Admin(), topology.Users, func(string) (string, error) { return password, nil }))

	raw, err := amqp.Dial(f.broker.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	f.events, err = raw.Channel()
	require.NoError(t, err)
	_, err = f.events.QueueDeclare("heard", true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, f.events.QueueBind("heard", "", contract.BillingEvents, false, nil))

	config := f.broker.Config()
	config.User, config.Password = contract.OrdersUser, password
	f.orders, err = f.broker.Connect(t, config).Publisher()
	require.NoError(t, err)

	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	f.shop = c.provider
	if f.shop == "" {
		s, err := sandbox.New(ctx, sandbox.Config{
			HTTPConfig: listen, DatabaseConfig: service.DatabaseConfig{URL: messagingtest.Database(t)}, SMTPAddr: "127.0.0.1:0",
			ProviderKey: password,
		}, log)
		require.NoError(t, err)
		run(t, s.Run)
		f.shop = "http://" + s.Addr()
	}

	b, err := app.New(ctx, app.Config{
		HTTPConfig:      listen,
		DatabaseConfig:  service.DatabaseConfig{URL: messagingtest.Database(t)},
		BrokerConfig:    service.BrokerConfig{URLs: []string{f.broker.URL}, User: contract.BillingUser, Password: password},
		ProviderURL:     f.shop,
		ProviderKey:     password,
		ProviderTimeout: cmp.Or(c.timeout, 10*time.Second),
		Concurrency:     4,
	}, cmp.Or(c.log, log))
	require.NoError(t, err)
	run(t, b.Run)
	f.url, f.admin = "http://"+b.Addr(), "http://"+b.AdminAddr()
	return f
}

// run runs something until the test ends, and wants it to stop cleanly.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// command makes a message; every order has a payment of its own.
func command(t *testing.T, kind messaging.MessageType, order, token string) messaging.Message {
	t.Helper()
	m, err := messaging.NewMessage(kind, contract.ChargeBody{
		PaymentID: "p-" + order, OrderID: order, Amount: contract.Money{AmountMinor: 4200, Currency: "EUR"},
		PaymentToken: token, CustomerID: "c-1", Region: contract.RegionEU, Tier: contract.TierStandard,
	})
	require.NoError(t, err)
	m.CorrelationID = order
	return m
}

func (f *fixture) charge(t *testing.T, m messaging.Message) {
	t.Helper()
	require.NoError(t, f.orders.Publish(t.Context(), contract.ChargeRoute, m))
}

func (f *fixture) refund(t *testing.T, m messaging.Message) {
	t.Helper()
	require.NoError(t, f.orders.Publish(t.Context(), contract.RefundRoute, m))
}

// hear waits for the next event.
func (f *fixture) hear(t *testing.T) (string, contract.PaymentBody) {
	t.Helper()
	var d amqp.Delivery
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		var ok bool
		var err error
		d, ok, err = f.events.Get("heard", true)
		require.NoError(t, err)
		return ok, "no event"
	})
	var body contract.PaymentBody
	require.NoError(t, json.Unmarshal(d.Body, &body))
	require.Equal(t, contract.BillingUser, d.UserId)
	require.Equal(t, body.OrderID, d.RoutingKey)
	require.Equal(t, body.OrderID, d.CorrelationId)
	return d.Type, body
}

// dead waits for a parked message.
func (f *fixture) dead(t *testing.T, queue messaging.Queue) amqp.Delivery {
	t.Helper()
	var d amqp.Delivery
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		var ok bool
		var err error
		d, ok, err = f.events.Get(contract.DeadQueue(queue.Name), true)
		require.NoError(t, err)
		return ok, "nothing is parked"
	})
	return d
}

// total asks the sandbox how many captures or refunds it has of an order.
func (f *fixture) total(t *testing.T, what, order string) (n int) {
	t.Helper()
	res, err := f.http.Get(f.shop + "/v1/" + what + "?order_id=" + order)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Total int `json:"total"`
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	return answer.Total
}

func TestBilling(t *testing.T) {
	t.Parallel()
	f := setup(t)

	t.Run("captured", func(t *testing.T) {
		f.charge(t, command(t, contract.Charge, "o-ok", "tok_ok"))
		kind, event := f.hear(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		require.Equal(t, "p-o-ok", event.PaymentID)
		require.Equal(t, 1, event.Attempts)
		require.Equal(t, 1, f.total(t, "captures", "o-ok"))
	})

	t.Run("declined", func(t *testing.T) {
		f.charge(t, command(t, contract.Charge, "o-declined", "tok_declined"))
		kind, event := f.hear(t)
		require.Equal(t, contract.PaymentDeclined.Name, kind)
		require.Equal(t, "card_declined", event.Reason)
	})

	t.Run("flaky, then captured once", func(t *testing.T) {
		started := time.Now()
		f.charge(t, command(t, contract.Charge, "o-flaky", "tok_flaky_2"))
		kind, event := f.hear(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		require.Equal(t, 3, event.Attempts)
		require.GreaterOrEqual(t, time.Since(started), 2500*time.Millisecond, "the broker delays by 1 s and 2 s")
		require.Equal(t, 1, f.total(t, "captures", "o-flaky"))
	})

	t.Run("broken, parked with its reason", func(t *testing.T) {
		m := command(t, contract.Charge, "o-broken", "tok_broken")
		f.charge(t, m)
		d := f.dead(t, contract.BillingCharge)
		require.Equal(t, m.ID, d.MessageId)
		require.Contains(t, d.Headers[messaging.HeaderDeadReason], "422 token_broken")
		require.EqualValues(t, 1, d.Headers[messaging.HeaderDeadAttempts])
		require.Zero(t, f.total(t, "captures", "o-broken"))
	})

	t.Run("three copies, one effect", func(t *testing.T) {
		m := command(t, contract.Charge, "o-twice", "tok_slow_200")
		f.charge(t, m)
		f.charge(t, m)
		f.charge(t, command(t, contract.Charge, "o-twice", "tok_slow_200")) // an id of its own
		kind, _ := f.hear(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		f.charge(t, command(t, contract.Charge, "o-after", "tok_ok"))
		_, event := f.hear(t)
		require.Equal(t, "o-after", event.OrderID, "no second event of the other order")
		require.Equal(t, 1, f.total(t, "captures", "o-twice"))
	})

	t.Run("a payment id of another order", func(t *testing.T) {
		m := command(t, contract.Charge, "o-ok", "tok_ok")
		var body contract.ChargeBody
		require.NoError(t, json.Unmarshal(m.Body, &body))
		body.OrderID = "o-other"
		m, err := messaging.NewMessage(contract.Charge, body)
		require.NoError(t, err)
		f.charge(t, m)
		require.Contains(t, f.dead(t, contract.BillingCharge).Headers[messaging.HeaderDeadReason], "belongs to another order")
	})

	t.Run("refunded, once", func(t *testing.T) {
		for range 2 {
			f.refund(t, command(t, contract.Refund, "o-ok", ""))
		}
		kind, event := f.hear(t)
		require.Equal(t, contract.PaymentRefunded.Name, kind)
		require.Equal(t, "o-ok", event.OrderID)
		require.Equal(t, 1, f.total(t, "refunds", "o-ok"))
	})

	t.Run("a refund that overtakes its charge waits for it", func(t *testing.T) {
		f.refund(t, command(t, contract.Refund, "o-late", ""))
		f.charge(t, command(t, contract.Charge, "o-late", "tok_slow_300"))
		kind, _ := f.hear(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		kind, event := f.hear(t)
		require.Equal(t, contract.PaymentRefunded.Name, kind)
		require.Equal(t, "o-late", event.OrderID)
	})

	t.Run("a refund of what was declined", func(t *testing.T) {
		f.refund(t, command(t, contract.Refund, "o-declined", ""))
		require.Contains(t, f.dead(t, contract.BillingRefund).Headers[messaging.HeaderDeadReason], "declined")
	})

	t.Run("a charge from somebody else", func(t *testing.T) {
		stranger, err := f.broker.Connect(t, f.broker.Config()).Publisher()
		require.NoError(t, err)
		require.NoError(t, stranger.Publish(t.Context(), contract.ChargeRoute, command(t, contract.Charge, "o-stranger", "tok_ok")))
		require.Contains(t, f.dead(t, contract.BillingCharge).Headers[messaging.HeaderDeadReason], messaging.ErrUntrustedSource.Error())
		require.Zero(t, f.total(t, "captures", "o-stranger"))
	})

	t.Run("ready, and seen in the metrics", f.checkReady)
}

func (f *fixture) checkReady(t *testing.T) {
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		res, err := f.http.Get(f.url + "/readyz")
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode == http.StatusOK, res.Status
	})
	res, err := f.http.Get(f.admin + "/metrics")
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusOK, res.StatusCode)
}

// Two copies of a charge are at the provider at once. It says no to one of them and yes
// to the other, whose answer comes last: the money is there, so it is announced, and can
// be given back.
func TestDeclinedAndCapturedAfterAll(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	declined := make(chan struct{})
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/captures" {
			if calls.Add(1) == 2 {
				w.WriteHeader(http.StatusPaymentRequired)
				return
			}
			select {
			case <-declined:
			case <-r.Context().Done():
			}
		}
		service.WriteJSON(w, http.StatusCreated, map[string]any{
			"payment_id": "p-o-1", "order_id": "o-1", "amount": contract.Money{AmountMinor: 4200, Currency: "EUR"},
		})
	}))
	t.Cleanup(provider.Close)
	f := setupWith(t, with{provider: provider.URL})
	for range 2 { // each with an id of its own
		f.charge(t, command(t, contract.Charge, "o-1", "tok_ok"))
	}
	kind, _ := f.hear(t)
	require.Equal(t, contract.PaymentDeclined.Name, kind)
	close(declined)
	kind, _ = f.hear(t)
	require.Equal(t, contract.PaymentCaptured.Name, kind)
	f.refund(t, command(t, contract.Refund, "o-1", ""))
	kind, _ = f.hear(t)
	require.Equal(t, contract.PaymentRefunded.Name, kind)
	for _, queue := range []messaging.Queue{contract.BillingCharge, contract.BillingRefund} {
		require.Zero(t, f.broker.Depth(t, contract.DeadQueue(queue.Name)))
	}
}

func TestChargesSurviveConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const orders = 60
	for i := range orders {
		f.charge(t, command(t, contract.Charge, fmt.Sprint("o-", i), "tok_slow_50"))
		if i%20 == 10 {
			f.broker.CloseAllConnections(t)
			f.reopen(t)
		}
	}
	seen := map[string]bool{}
	for len(seen) < orders {
		kind, event := f.hear(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		seen[event.OrderID] = true // the outbox may send an event twice
	}
	for order := range seen {
		require.Equal(t, 1, f.total(t, "captures", order), order)
	}
}

// reopen replaces the channel that listens, after its connection was closed.
func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	raw, err := amqp.Dial(f.broker.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	f.events, err = raw.Channel()
	require.NoError(t, err)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	valid := app.Config{ProviderTimeout: time.Second, Concurrency: 1}
	require.NoError(t, valid.Validate())
	for _, c := range []struct {
		name   string
		mutate func(*app.Config)
	}{
		{"PROVIDER_TIMEOUT", func(c *app.Config) { c.ProviderTimeout = 0 }},
		{"PROVIDER_TIMEOUT", func(c *app.Config) { c.ProviderTimeout = time.Hour }},
		{"CONCURRENCY", func(c *app.Config) { c.Concurrency = 0 }},
	} {
		config := valid
		c.mutate(&config)
		require.ErrorContains(t, config.Validate(), c.name)
	}
}

// It is refused before anything is waited for.
func TestBadProviderURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "foo", "ftp://provider", "http://key:s3cret@provider", "http://provider/#part"} {
		_, err := app.New(t.Context(), app.Config{ProviderURL: bad, ProviderTimeout: time.Second, Concurrency: 1}, zap.NewNop())
		require.ErrorContains(t, err, "PROVIDER_URL: ", bad)
		require.NotContains(t, err.Error(), "s3cret")
	}
}
