// Package e2e_test tests the whole system from outside: the real services, started in this
// process, with a real RabbitMQ and a real PostgreSQL.
package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	billing "example.com/orderflow/services/billing/app"
	notifier "example.com/orderflow/services/notifier/app"
	orders "example.com/orderflow/services/orders/app"
	pricing "example.com/orderflow/services/pricing-rpc/app"
	sandbox "example.com/orderflow/tools/sandbox/app"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

const (
	password      = "test-only"
	operatorToken = "operator-test-token"
)

// system is a complete Orderflow with its own virtual host and databases.
type system struct {
	t         *testing.T
	broker    *messagingtest.BrokerInfo
	databases map[string]string
	logs      *observer.ObservedLogs
	log       *zap.Logger
	http      *http.Client

	processes []*process // all that were started

	sandbox *sandbox.App
	pricing *process
	orders  []*process
}

// process is a service that runs in this process.
type process struct {
	URL, Admin string
	Stop       func()
}

// app has the methods that all services have.
type app interface {
	Run(ctx context.Context) error
	Addr() string
	AdminAddr() string
}

// newSystem applies the topology with the users' permissions, and starts the sandbox. The test
// starts the services.
func newSystem(t *testing.T, paymentDeadline time.Duration) *system {
	t.Helper()
	return newSystemOn(t, messagingtest.Broker(t), contract.All(paymentDeadline))
}

func newSystemOn(t *testing.T, broker *messagingtest.BrokerInfo, topology messaging.Topology) *system {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	s := &system{
		t: t, broker: broker, databases: map[string]string{}, logs: logs, log: zap.New(core),
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
	t.Cleanup(s.http.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, messaging.Apply(ctx, s.broker.Admin(), topology))
	require.NoError(t, messaging.ApplyUsers(ctx, s.broker.Admin(), topology.Users, func(string) (string, error) { return password, nil }))
	for _, name := range []string{"orders", "billing", "notifier", "pricing", "sandbox"} {
		s.databases[name] = messagingtest.Database(t)
	}
	var err error
	s.sandbox, err = sandbox.New(ctx, sandbox.Config{
		HTTPConfig: listen, DatabaseConfig: s.database("sandbox"), SMTPAddr: "127.0.0.1:0",
	}, s.log)
	require.NoError(t, err)
	s.run(s.sandbox)
	return s
}

var listen = service.HTTPConfig{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"}

func (s *system) database(name string) service.DatabaseConfig {
	return service.DatabaseConfig{URL: s.databases[name], MaxConns: 8}
}

func (s *system) user(name string) service.BrokerConfig {
	return service.BrokerConfig{URLs: []string{s.broker.URL}, User: name, Password: password}
}

// run runs an app until the test ends, or until it is stopped.
func (s *system) run(a app) *process {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	p := &process{URL: "http://" + a.Addr(), Admin: "http://" + a.AdminAddr()}
	p.Stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			require.NoError(s.t, err, "the service stops without an error")
		case <-time.After(60 * time.Second):
			s.t.Error("the service does not stop")
		}
	}
	s.t.Cleanup(p.Stop)
	s.processes = append(s.processes, p)
	messagingtest.Eventually(s.t, 30*time.Second, func() (bool, string) {
		status, body := s.get(p.Admin + "/readyz")
		return status == http.StatusOK, body
	})
	return p
}

func (s *system) startPricing() *process {
	s.t.Helper()
	a, err := pricing.New(s.t.Context(), pricing.Config{
		HTTPConfig: listen, DatabaseConfig: s.database("pricing"), BrokerConfig: s.user(contract.PricingUser),
		OperatorToken: operatorToken, Concurrency: 8,
	}, s.log)
	require.NoError(s.t, err)
	s.pricing = s.run(a)
	return s.pricing
}

func (s *system) startOrders() *process {
	s.t.Helper()
	a, err := orders.New(s.t.Context(), orders.Config{
		HTTPConfig: listen, DatabaseConfig: s.database("orders"), BrokerConfig: s.user(contract.OrdersUser),
	}, s.log)
	require.NoError(s.t, err)
	p := s.run(a)
	s.orders = append(s.orders, p)
	return p
}

func (s *system) startBilling(concurrency int) *process {
	s.t.Helper()
	return s.startBillingAt("http://"+s.sandbox.Addr(), concurrency, 10*time.Second)
}

// startBillingAt starts billing with another provider and timeout.
func (s *system) startBillingAt(provider string, concurrency int, timeout time.Duration) *process {
	s.t.Helper()
	a, err := billing.New(s.t.Context(), billing.Config{
		HTTPConfig: listen, DatabaseConfig: s.database("billing"), BrokerConfig: s.user(contract.BillingUser),
		ProviderURL: provider, ProviderTimeout: timeout, Concurrency: concurrency,
	}, s.log)
	require.NoError(s.t, err)
	return s.run(a)
}

func (s *system) startNotifier() *process {
	s.t.Helper()
	a, err := notifier.New(s.t.Context(), notifier.Config{
		HTTPConfig: listen, DatabaseConfig: s.database("notifier"), BrokerConfig: s.user(contract.NotifierUser),
		SMTPAddr: s.sandbox.SMTPAddr(), MailFrom: "shop@example.com", WebhookURL: "http://" + s.sandbox.Addr() + "/webhooks", Concurrency: 4,
	}, s.log)
	require.NoError(s.t, err)
	return s.run(a)
}

// startAll starts one replica of each service.
func (s *system) startAll() {
	s.t.Helper()
	s.startPricing()
	s.startOrders()
	s.startBilling(4)
	s.startNotifier()
}

// raw returns a channel of the administrator, for tests that read or change queues.
func (s *system) raw() *amqp.Channel {
	s.t.Helper()
	conn, err := amqp.Dial(s.broker.URL)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(s.t, err)
	return ch
}

// publish publishes a message as a service's user.
func (s *system) publish(user string, route messaging.Route, messages ...messaging.Message) {
	s.t.Helper()
	config := s.broker.Config()
	config.User, config.Password = user, password
	p, err := s.broker.Connect(s.t, config).Publisher()
	require.NoError(s.t, err)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for _, m := range messages {
		require.NoError(s.t, p.Publish(ctx, route, m))
	}
}

// takeOne waits for a message in a queue and takes it out.
func (s *system) takeOne(ch *amqp.Channel, queue string) amqp.Delivery {
	s.t.Helper()
	var d amqp.Delivery
	messagingtest.Eventually(s.t, 30*time.Second, func() (bool, string) {
		got, ok, err := ch.Get(queue, true)
		require.NoError(s.t, err)
		d = got
		return ok, queue + " is empty"
	})
	return d
}

// handled is how many messages of a queue have had this verdict, in all running processes.
func (s *system) handled(queue string, verdict messaging.Verdict) (n int) {
	s.t.Helper()
	line := regexp.MustCompile(`(?m)^messaging_handle_seconds_count\{queue="` + regexp.QuoteMeta(queue) + `",verdict="` + string(verdict) + `"\} (\d+)$`)
	for _, p := range s.processes {
		_, metrics := s.get(p.Admin + "/metrics")
		if found := line.FindStringSubmatch(metrics); found != nil {
			count, err := strconv.Atoi(found[1])
			require.NoError(s.t, err)
			n += count
		}
	}
	return n
}

// depth waits until a queue has this many messages.
func (s *system) depth(queue string, want int) {
	s.t.Helper()
	messagingtest.Eventually(s.t, 30*time.Second, func() (bool, string) {
		n := s.broker.Depth(s.t, queue)
		return n == want, fmt.Sprintf("%d messages in %s", n, queue)
	})
}
