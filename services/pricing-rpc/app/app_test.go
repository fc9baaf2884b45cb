package app_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/pricing-rpc/app"
)

const (
	password = "test-only"
	// callerWaits is how long orders waits for a call.
	callerWaits = 2 * time.Second
)

// fixture is pricing-rpc with a real broker and a database behind a proxy.
type fixture struct {
	broker   *messagingtest.BrokerInfo
	database *messagingtest.Proxy
	caller   *messaging.Caller // as the user orders
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		broker:   messagingtest.Broker(t),
		database: messagingtest.NewProxy(t, &messagingtest.BrokerInfo{URL: messagingtest.Database(t)}),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topology := contract.All(0)
	require.NoError(t, messaging.Apply(ctx, f.broker.Admin(), topology))
	require.NoError(t, messaging.ApplyUsers(ctx, f.broker.Admin(), topology.Users, func(string) (string, error) { return password, nil }))
	config := f.broker.Config()
	config.User, config.Password = contract.OrdersUser, password
	f.caller = f.broker.Connect(t, config).Caller()

	a, err := app.New(ctx, app.Config{
		HTTPConfig:     service.HTTPConfig{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"},
		DatabaseConfig: service.DatabaseConfig{URL: f.database.URL},
		BrokerConfig:   service.BrokerConfig{URLs: []string{f.broker.URL}, User: contract.PricingUser, Password: password},
		OperatorToken:  "secret", Concurrency: 4,
	}, zap.NewNop())
	require.NoError(t, err)
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(run) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	messagingtest.Eventually(t, time.Minute, func() (bool, string) {
		res, err := client.Get("http://" + a.Addr() + "/readyz")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode == http.StatusOK, res.Status
	})
	return f
}

var question = contract.PricingQuoteBody{Items: []contract.OrderItem{{SKU: "mug", Quantity: 2}}}

// call calls as a user, and requires an answer within the caller's timeout.
func call(t *testing.T, caller *messaging.Caller, p messaging.Procedure[contract.PricingQuoteBody, contract.PricingQuoteReplyBody], request contract.PricingQuoteBody) (contract.PricingQuoteReplyBody, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callerWaits)
	defer cancel()
	reply, err := messaging.Call(ctx, caller, p, request)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	return reply, err
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	var refused *messaging.RemoteError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code)
}

func TestCalls(t *testing.T) {
	t.Parallel()
	f := setup(t)
	quote := func() error { _, err := call(t, f.caller, contract.PricingQuoteProcedure, question); return err }

	reply, err := call(t, f.caller, contract.PricingQuoteProcedure, question)
	require.NoError(t, err)
	require.NoError(t, reply.Check(question.Items))
	_, err = call(t, f.caller, contract.PricingQuoteProcedure, contract.PricingQuoteBody{Items: []contract.OrderItem{{SKU: "a\x00b", Quantity: 1}}})
	requireCode(t, contract.CodeUnknownSKU, err)

	t.Run("of a newer version are answered", func(t *testing.T) {
		newer := contract.PricingQuoteProcedure
		newer.Request.Name, newer.Reply.Name = "pricing.quote.v2", "pricing.quote.reply.v2"
		_, err := call(t, f.caller, newer, question)
		requireCode(t, contract.CodeUnknownType, err)
	})
	t.Run("of another sender are answered", func(t *testing.T) {
		stranger := f.broker.Connect(t, f.broker.Config()).Caller()
		_, err := call(t, stranger, contract.PricingQuoteProcedure, question)
		requireCode(t, contract.CodeNotAllowed, err)
	})
	t.Run("of another sender are not answered to a service's queue", func(t *testing.T) {
		pub, err := f.broker.Connect(t, f.broker.Config()).Publisher()
		require.NoError(t, err)
		m, err := messaging.NewMessage(contract.PricingQuote, question)
		require.NoError(t, err)
		m.ReplyTo = contract.BillingCharge.Name
		require.NoError(t, pub.Publish(t.Context(), contract.PricingQuoteProcedure.Route, m))
		require.NoError(t, quote()) // handled after it
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
			return f.broker.Unsettled(t, contract.PricingQuoteQueue.Name) == 0, "not taken yet"
		})
		require.Zero(t, f.broker.Depth(t, contract.BillingCharge.Name))
	})
	t.Run("get unavailable at once when the database is down", func(t *testing.T) {
		f.database.Cut()
		requireCode(t, contract.CodeUnavailable, quote())
		f.database.Restore()
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { return quote() == nil, "still away" })
	})
	t.Run("get unavailable in time when the database does not answer", func(t *testing.T) {
		f.database.Stall()
		defer f.database.Resume()
		requireCode(t, contract.CodeUnavailable, quote())
	})
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { return quote() == nil, "the consumer waits for what is away" })
	require.Zero(t, f.broker.Depth(t, contract.PricingQuoteQueue.Name))
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		return f.broker.Unsettled(t, contract.PricingQuoteQueue.Name) == 0, "every call is acknowledged"
	})
}
