package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/app"
	sandbox "example.com/orderflow/tools/sandbox/app"
)

const (
	password      = "test-only"
	webhookSecret = "test-only too"
)

// fixture is notifier with a real broker, a real database and the real sandbox.
type fixture struct {
	orders, billing *messaging.Publisher
	broker          *messagingtest.BrokerInfo
	http            *http.Client
	outside         string // the sandbox's URL
	url             string // notifier's
}

func setup(t *testing.T) *fixture {
	t.Helper()
	return setupOn(t, contract.All(0), zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
}

func setupOn(t *testing.T, topology messaging.Topology, log *zap.Logger) *fixture {
	t.Helper()
	broker := messagingtest.Broker(t)
	f := &fixture{broker: broker, http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(f.http.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, messaging.Apply(ctx, broker.Admin(), topology))
	require.NoError(t, messaging.ApplyUsers(ctx, broker.Admin(), topology.Users, func(string) (string, error) { return password, nil }))
	publisher := func(user string) *messaging.Publisher {
		config := broker.Config()
		config.User, config.Password = user, password
		p, err := broker.Connect(t, config).Publisher()
		require.NoError(t, err)
		return p
	}
	f.orders, f.billing = publisher(contract.OrdersUser), publisher(contract.BillingUser)

	listen := service.HTTPConfig{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"}
	s, err := sandbox.New(ctx, sandbox.Config{
		HTTPConfig: listen, DatabaseConfig: service.DatabaseConfig{URL: messagingtest.Database(t)}, SMTPAddr: "127.0.0.1:0",
		SMTPUser: "shop", SMTPPassword: password, WebhookSecret: webhookSecret,
	}, log)
	require.NoError(t, err)
	run(t, s.Run)
	f.outside = "http://" + s.Addr()

	n, err := app.New(ctx, app.Config{
		HTTPConfig:     listen,
		DatabaseConfig: service.DatabaseConfig{URL: messagingtest.Database(t)},
		BrokerConfig:   service.BrokerConfig{URLs: []string{broker.URL}, User: contract.NotifierUser, Password: password},
		SMTPAddr:       s.SMTPAddr(),
		SMTPUser:       "shop",
		SMTPPassword:   password,
		MailFrom:       "shop@example.com",
		WebhookURL:     f.outside + "/webhooks",
		WebhookSecret:  webhookSecret,
		Concurrency:    4,
	}, log)
	require.NoError(t, err)
	run(t, n.Run)
	f.url = "http://" + n.Addr()
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

// order publishes an order event; every order has its own customer, with the same name.
func (f *fixture) order(t *testing.T, kind messaging.MessageType, event, order, tier string, copies int) {
	t.Helper()
	m, err := messaging.NewMessage(kind, contract.OrderBody{
		OrderID: order, CustomerID: order, Region: contract.RegionEU, Tier: tier, Total: contract.Money{AmountMinor: 1999, Currency: "EUR"},
	})
	require.NoError(t, err)
	m.CorrelationID = order
	for range copies {
		route := messaging.Route{Exchange: contract.OrdersEvents, Key: contract.OrderKey(event, contract.RegionEU, tier)}
		require.NoError(t, f.orders.Publish(t.Context(), route, m))
	}
}

type seen struct {
	Mails    []mail    `json:"mails"`
	Webhooks []webhook `json:"webhooks"`
}

type mail struct {
	Subject   string `json:"subject"`
	Text      string `json:"text"`
	DedupeKey string `json:"dedupe_key"`
}

type webhook struct {
	DedupeKey string `json:"dedupe_key"`
}

// outsideHas waits until the sandbox has this many mails and webhooks of an order.
func (f *fixture) outsideHas(t *testing.T, order string, mails, webhooks int) (s seen) {
	t.Helper()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		s = seen{}
		for _, path := range []string{"/v1/mails?to=" + order + "@example.com", "/v1/webhooks?order_id=" + order} {
			res, err := f.http.Get(f.outside + path)
			require.NoError(t, err)
			require.NoError(t, json.NewDecoder(res.Body).Decode(&s))
			require.NoError(t, res.Body.Close())
		}
		return len(s.Mails) == mails && len(s.Webhooks) == webhooks, fmt.Sprintf("%+v", s)
	})
	return s
}

func TestNotifier(t *testing.T) {
	t.Parallel()
	f := setup(t)

	t.Run("one mail for any number of copies", func(t *testing.T) {
		f.order(t, contract.OrderPaid, "paid", "o-paid", contract.TierStandard, 3)
		f.order(t, contract.OrderCancelled, "cancelled", "o-cancelled", contract.TierStandard, 1)
		f.outsideHas(t, "o-cancelled", 1, 0)
		m := f.outsideHas(t, "o-paid", 1, 0).Mails[0]
		require.Equal(t, "Order o-paid is paid", m.Subject)
		require.Contains(t, m.Text, "19.99 EUR")
		require.Equal(t, "order-paid:o-paid", m.DedupeKey)
	})

	t.Run("an urgent notification goes to the webhook too", func(t *testing.T) {
		f.order(t, contract.OrderPaid, "paid", "o-express", contract.TierExpress, 1)
		require.Equal(t, "order-paid:o-express", f.outsideHas(t, "o-express", 1, 1).Webhooks[0].DedupeKey)
	})

	t.Run("a webhook and no mail", func(t *testing.T) {
		f.order(t, contract.OrderPlaced, "placed", "o-placed", contract.TierExpress, 1)
		f.outsideHas(t, "o-placed", 0, 1)
	})

	t.Run("a receipt", func(t *testing.T) {
		m, err := messaging.NewMessage(contract.PaymentCaptured, contract.PaymentBody{
			PaymentID: "p-1", OrderID: "o-receipt", CustomerID: "o-receipt", Amount: contract.Money{AmountMinor: 5, Currency: "EUR"},
		})
		require.NoError(t, err)
		require.NoError(t, f.billing.Publish(t.Context(), messaging.Route{Exchange: contract.BillingEvents, Key: "o-receipt"}, m))
		require.Equal(t, "receipt:p-1", f.outsideHas(t, "o-receipt", 1, 0).Mails[0].DedupeKey)
	})
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	require.NoError(t, app.Config{Concurrency: 1}.Validate())
	require.ErrorContains(t, app.Config{}.Validate(), "CONCURRENCY")
	good := app.Config{SMTPAddr: "mail:25", MailFrom: "shop@example.com", WebhookURL: "https://receiver", Concurrency: 1}
	for setting, mutate := range map[string]func(*app.Config){
		"SMTP_ADDR":                        func(c *app.Config) { c.SMTPAddr = "mail" },
		"SMTP_USER and SMTP_PASSWORD_FILE": func(c *app.Config) { c.SMTPUser = "shop" },
		"MAIL_FROM":                        func(c *app.Config) { c.MailFrom = "shop" },
		"WEBHOOK_URL":                      func(c *app.Config) { c.WebhookURL = "foo" },
	} {
		config := good
		mutate(&config)
		_, err := app.New(t.Context(), config, zap.NewNop())
		require.ErrorContains(t, err, setting+": ", "refused before the start")
	}
}
