package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/billing/app"
)

func TestBilling(t *testing.T) {
	t.Parallel()
	f := setup(t)

	t.Run("captured", func(t *testing.T) {
		f.charge(t, command(t, contract.Charge, "o-ok", "tok_ok"))
		kind, event := f.nextEvent(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		require.Equal(t, "p-o-ok", event.PaymentID)
		require.Equal(t, 1, event.Attempts)
		require.Equal(t, 1, f.total(t, "captures", "o-ok"))
	})

	t.Run("declined", func(t *testing.T) {
		f.charge(t, command(t, contract.Charge, "o-declined", "tok_declined"))
		kind, event := f.nextEvent(t)
		require.Equal(t, contract.PaymentDeclined.Name, kind)
		require.Equal(t, "card_declined", event.Reason)
	})

	t.Run("flaky, then captured once", func(t *testing.T) {
		started := time.Now()
		f.charge(t, command(t, contract.Charge, "o-flaky", "tok_flaky_2"))
		kind, event := f.nextEvent(t)
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
		f.charge(t, command(t, contract.Charge, "o-twice", "tok_slow_200")) // with its own message id
		kind, _ := f.nextEvent(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		f.charge(t, command(t, contract.Charge, "o-after", "tok_ok"))
		_, event := f.nextEvent(t)
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
		kind, event := f.nextEvent(t)
		require.Equal(t, contract.PaymentRefunded.Name, kind)
		require.Equal(t, "o-ok", event.OrderID)
		require.Equal(t, 1, f.total(t, "refunds", "o-ok"))
	})

	t.Run("a refund that overtakes its charge waits for it", func(t *testing.T) {
		f.refund(t, command(t, contract.Refund, "o-late", ""))
		f.charge(t, command(t, contract.Charge, "o-late", "tok_slow_300"))
		kind, _ := f.nextEvent(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		kind, event := f.nextEvent(t)
		require.Equal(t, contract.PaymentRefunded.Name, kind)
		require.Equal(t, "o-late", event.OrderID)
	})

	t.Run("a refund of what was declined", func(t *testing.T) {
		f.refund(t, command(t, contract.Refund, "o-declined", ""))
		require.Contains(t, f.dead(t, contract.BillingRefund).Headers[messaging.HeaderDeadReason], "declined")
	})

	t.Run("a charge from another service", func(t *testing.T) {
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

// Two copies of a charge are at the provider at the same time. It declines one of them and
// accepts the other, whose answer comes last. So the payment is announced as captured, and can
// be refunded.
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
	for range 2 { // each with its own id
		f.charge(t, command(t, contract.Charge, "o-1", "tok_ok"))
	}
	kind, _ := f.nextEvent(t)
	require.Equal(t, contract.PaymentDeclined.Name, kind)
	close(declined)
	kind, _ = f.nextEvent(t)
	require.Equal(t, contract.PaymentCaptured.Name, kind)
	f.refund(t, command(t, contract.Refund, "o-1", ""))
	kind, _ = f.nextEvent(t)
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
		kind, event := f.nextEvent(t)
		require.Equal(t, contract.PaymentCaptured.Name, kind)
		seen[event.OrderID] = true // the outbox may send an event twice
	}
	for order := range seen {
		require.Equal(t, 1, f.total(t, "captures", order), order)
	}
}

// reopen replaces the test's channel after its connection was closed.
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

// A wrong setting is refused before the start.
func TestBadProviderURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "foo", "ftp://provider", "http://key:s3cret@provider", "http://provider/#part"} {
		_, err := app.New(t.Context(), app.Config{ProviderURL: bad, ProviderTimeout: time.Second, Concurrency: 1}, zap.NewNop())
		require.ErrorContains(t, err, "PROVIDER_URL: ", bad)
		require.NotContains(t, err.Error(), "s3cret")
	}
}
