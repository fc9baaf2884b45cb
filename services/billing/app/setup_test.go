package app_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
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

// fixture is billing with a real broker, a real database and the real sandbox.
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

// with has the differences of a fixture from the real system.
type with struct {
	provider string        // its URL, instead of the sandbox's
	timeout  time.Duration // of one call
	retry    time.Duration // delay before a failed charge is tried again
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

// run runs an app until the test ends, and checks that it stops without an error.
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

// command makes a message; every order has its own payment.
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

// nextEvent waits for the next event.
func (f *fixture) nextEvent(t *testing.T) (string, contract.PaymentBody) {
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

// total returns how many captures or refunds of an order the sandbox has.
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
