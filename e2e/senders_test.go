package e2e_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// The broker refuses a false user id and accepts a missing one, and a user who may write to
// the default exchange can publish to every queue. Such messages are parked.
func TestWhatHasNoSenderIsParked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startBilling(2)
	s.startNotifier()
	admin := s.raw()
	charge := messaging.Route{Exchange: contract.BillingCommands, Key: "charge"}
	direct := messaging.Route{Key: contract.BillingCharge.Name}
	paid := messaging.Route{Exchange: contract.BillingEvents, Key: "1"}
	body := []byte(`{"payment_id":"` + uuid.NewString() + `","order_id":"` + uuid.NewString() + `","amount":{"amount_minor":100,"currency":"EUR"},` +
		`"payment_token":"tok_ok","customer_id":"eve","region":"eu","tier":"standard"}`)
	for _, c := range []struct {
		name, user, sender string
		route              messaging.Route
		kind               string
		body               []byte
		deadIn, reason     string
	}{
		{name: "orders that does not say so", user: contract.OrdersUser, route: charge, reason: "untrusted source"},
		{name: "the administrator", user: s.broker.User, route: charge, reason: "untrusted source"},
		{name: "the administrator by name", user: s.broker.User, sender: s.broker.User, route: charge, reason: "untrusted source"},
		{name: "the administrator past the exchange", user: s.broker.User, sender: s.broker.User, route: direct, reason: "untrusted source"},
		{name: "nobody past the exchange", user: s.broker.User, route: direct, reason: "untrusted source"},
		{name: "an operator that does not say so", user: contract.Operator, route: direct, reason: "untrusted source"},
		{name: "pricing-rpc past the exchange", user: contract.PricingUser, sender: contract.PricingUser, route: direct, reason: "untrusted source"},
		{name: "pricing-rpc that does not say so", user: contract.PricingUser, route: direct, reason: "untrusted source"},
		{name: "a type that billing itself sends", user: contract.OrdersUser, sender: contract.OrdersUser, route: charge, kind: contract.PaymentCaptured.Name, reason: "unknown message type"},
		{name: "a version that is not known", user: contract.OrdersUser, sender: contract.OrdersUser, route: charge, kind: "charge.v99", reason: "unknown message type"},
		{name: "no type", user: contract.OrdersUser, sender: contract.OrdersUser, route: charge, kind: "-", reason: "unknown message type"},
		{name: "no JSON", user: contract.OrdersUser, sender: contract.OrdersUser, route: charge, body: []byte("\x00"), reason: "undecodable"},
		{name: "a payment event of nobody", user: contract.BillingUser, route: paid, kind: contract.PaymentCaptured.Name,
			deadIn: contract.NotifierReceipts.Name, reason: "untrusted source"},
		{name: "the operator by another type's exchange", user: contract.Operator, sender: contract.Operator, route: paid, kind: contract.OrderPaid.Name,
			deadIn: contract.NotifierReceipts.Name, reason: "untrusted source"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.kind == "" {
				c.kind = contract.Charge.Name
			}
			if c.kind == "-" {
				c.kind = ""
			}
			if c.body == nil {
				c.body = body
			}
			if c.deadIn == "" {
				c.deadIn = contract.BillingCharge.Name
			}
			secret := password // also the administrator's, in tests
			conn, err := dialAs(t, s.broker, c.user, secret)
			require.NoError(t, err)
			ch, err := conn.Channel()
			require.NoError(t, err)
			sent := amqp.Publishing{
				MessageId: uuid.NewString(), Type: c.kind, UserId: c.sender, ContentType: "application/json",
				DeliveryMode: amqp.Persistent, Timestamp: time.Now(), Body: c.body,
				// Other properties in which a sender names itself are ignored.
				AppId: contract.OrdersUser, Headers: amqp.Table{"user": contract.OrdersUser, messaging.HeaderDeadUser: contract.OrdersUser},
			}
			require.NoError(t, ch.Publish(c.route.Exchange, c.route.Key, true, false, sent))
			dead := s.takeOne(admin, contract.DeadQueue(c.deadIn))
			require.Equal(t, sent.MessageId, dead.MessageId)
			require.Equal(t, sent.Body, dead.Body)
			require.Contains(t, dead.Headers[messaging.HeaderDeadReason], c.reason)
			require.Equal(t, c.sender, dead.Headers[messaging.HeaderDeadUser], "the user that the broker has checked")
			require.Equal(t, c.route.Exchange, dead.Headers[messaging.HeaderDeadOrigin])
			require.EqualValues(t, 1, dead.Headers[messaging.HeaderDeadAttempts], "at the first attempt")
		})
	}
	require.Empty(t, s.captures(""))
	require.Empty(t, s.subjects("eve"))
}
