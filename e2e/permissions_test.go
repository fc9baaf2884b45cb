package e2e_test

import (
	"bytes"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The broker's codes, as AMQP names them.
const (
	accessRefused  = amqp.AccessRefused      // 403
	resourceLocked = amqp.ResourceLocked     // 405
	preconditions  = amqp.PreconditionFailed // 406
)

// permission is an operation that a user tries.
type permission struct {
	user, what string
	try        attempt
	code       int // what the broker answers; 403 where none is given
}

// refusedToOrdersAndBilling are what orders and billing try and must not be able to do.
func refusedToOrdersAndBilling() []permission {
	const orders, billing, operator = contract.OrdersUser, contract.BillingUser, contract.Operator
	return []permission{
		// Money and its history.
		{user: orders, what: "announces a payment", try: write(contract.BillingEvents, "1")},
		{user: orders, what: "announces a payment to its own shards", try: write(contract.OrdersPayments, "1")},
		{user: orders, what: "announces a payment to a shard directly", try: write("", contract.PaymentShards[0].Name)},
		{user: orders, what: "takes charges away", try: get(contract.BillingCharge.Name)},
		{user: orders, what: "takes refunds away", try: consume(contract.BillingRefund.Name)},
		{user: orders, what: "reads payment events past its queues", try: spyOn(contract.BillingEvents)},
		{user: orders, what: "reads its own events", try: spyOn(contract.OrdersEvents)},
		{user: orders, what: "reads the audit stream", try: consume(contract.Audit)},
		{user: orders, what: "reads the mails", try: consume(contract.NotifierEmail.Name)},
		{user: orders, what: "takes deadlines away before they fall due", try: get("orders.payment-deadline")},
		{user: orders, what: "empties the queue of deadlines", try: purge("orders.payment-deadline")},
		{user: orders, what: "empties a dead-letter queue", try: purge(contract.DeadQueue(contract.OrdersExpire.Name))},
		{user: orders, what: "reads its dead letters", try: get(contract.DeadQueue(contract.PaymentShards[0].Name))},
		{user: orders, what: "changes a price", try: write(contract.PricesChanged, "")},
		{user: orders, what: "answers calls", try: consume(contract.PricingQuoteQueue.Name)},
		{user: orders, what: "sends a notification", try: write(contract.Notifications, "")},
		{user: orders, what: "writes into the unrouted", try: write(contract.Unrouted, "")},
		{user: orders, what: "stops charges", try: unbind(contract.BillingCommands, "charge", contract.BillingCharge.Name)},
		{user: orders, what: "adds a shard", try: bind(contract.OrdersPayments, "", contract.OrdersExpire.Name)},
		{user: orders, what: "removes a shard", try: deleteQueue(contract.PaymentShards[3].Name)},
		{user: orders, what: "removes its exchange", try: deleteExchange(contract.OrdersEvents)},
		{user: orders, what: "looks at another's queue", try: lookAtQueue(contract.BillingCharge.Name)},
		{user: orders, what: "publishes as billing", try: writeAs(billing, contract.OrdersEvents, "order.paid.eu.standard"), code: preconditions},
		{user: orders, what: "publishes as the operator", try: writeAs(operator, contract.BillingCommands, "charge"), code: preconditions},

		{user: billing, what: "orders a charge by itself", try: write(contract.BillingCommands, "charge")},
		{user: billing, what: "charges past the exchange", try: write("", contract.BillingCharge.Name)},
		{user: billing, what: "says that an order is paid", try: write(contract.OrdersEvents, "order.paid.eu.standard")},
		{user: billing, what: "lets an order expire", try: write(contract.OrdersDeadlines, "expire")},
		{user: billing, what: "publishes an order event by a dead letter", try: deadLetterInto(contract.OrdersEvents)},
		{user: billing, what: "reads orders", try: spyOn(contract.OrdersEvents)},
		{user: billing, what: "reads what orders reads", try: consume(contract.PaymentShards[1].Name)},
		{user: billing, what: "reads its own events", try: spyOn(contract.BillingEvents)},
		{user: billing, what: "reads receipts", try: get(contract.NotifierReceipts.Name)},
		{user: billing, what: "empties its own dead letters", try: purge(contract.DeadQueue(contract.BillingCharge.Name))},
		{user: billing, what: "removes the audit stream", try: deleteQueue(contract.Audit)},
		{user: billing, what: "unbinds the audit stream from its events", try: unbind(contract.BillingEvents, "", contract.Audit)},
		{user: billing, what: "has charges copied to refunds", try: bind(contract.BillingCommands, "charge", contract.BillingRefund.Name)},
		{user: billing, what: "has orders' events come to its exchange", try: bindExchange(contract.OrdersEvents, contract.BillingEvents)},
		{user: billing, what: "redeclares its exchange", try: declareExchange(contract.BillingEvents)},
		{user: billing, what: "asks for a price", try: write(contract.PricingRequests, "quote")},
		{user: billing, what: "publishes as orders", try: writeAs(orders, contract.BillingEvents, "1"), code: preconditions},
	}
}

// refusedToOthers are what the other users try and must not be able to do.
func refusedToOthers() []permission {
	const (
		orders, billing, notifier = contract.OrdersUser, contract.BillingUser, contract.NotifierUser
		pricing, operator         = contract.PricingUser, contract.Operator
	)
	return []permission{
		{user: notifier, what: "charges a customer", try: write(contract.BillingCommands, "charge")},
		{user: notifier, what: "says that a payment was refunded", try: write(contract.BillingEvents, "1")},
		{user: notifier, what: "writes an order event", try: write(contract.OrdersEvents, "order.paid.eu.express")},
		{user: notifier, what: "reads all orders, not only those it must tell of", try: spyOn(contract.OrdersEvents)},
		{user: notifier, what: "widens its binding", try: bind(contract.OrdersEvents, "#", contract.NotifierOrders.Name)},
		{user: notifier, what: "reads all payments", try: spyOn(contract.BillingEvents)},
		{user: notifier, what: "takes charges, with their tokens", try: get(contract.BillingCharge.Name)},
		{user: notifier, what: "sends to a queue directly", try: write("", contract.NotifierEmail.Name)},
		{user: notifier, what: "answers somebody's call", try: write("", "amq.rabbitmq.reply-to.guess")},
		{user: notifier, what: "reads from its own exchange", try: spyOn(contract.Notifications)},
		{user: notifier, what: "reads heartbeats", try: spyOn(contract.OpsHeartbeats)},
		{user: notifier, what: "empties the unrouted", try: purge(contract.Unrouted)},
		{user: notifier, what: "removes its queue", try: deleteQueue(contract.NotifierEmail.Name)},
		{user: notifier, what: "publishes as nobody known", try: writeAs("nobody", contract.Notifications, ""), code: preconditions},

		// It may write to the default exchange, for its replies. So it can publish to every
		// queue; their consumers check the sender.
		{user: pricing, what: "calls itself", try: write(contract.PricingRequests, "quote")},
		{user: pricing, what: "writes an order event", try: write(contract.OrdersEvents, "order.paid.eu.standard")},
		{user: pricing, what: "announces a payment", try: write(contract.BillingEvents, "1")},
		{user: pricing, what: "orders a refund", try: write(contract.BillingCommands, "refund")},
		{user: pricing, what: "writes into the dead letters", try: write(contract.DeadLetters, contract.BillingCharge.Name)},
		{user: pricing, what: "reads orders", try: spyOn(contract.OrdersEvents)},
		{user: pricing, what: "takes charges, with their tokens", try: consume(contract.BillingCharge.Name)},
		{user: pricing, what: "empties the queue of deadlines", try: purge("orders.payment-deadline")},
		{user: pricing, what: "reads price changes", try: spyOn(contract.PricesChanged)},
		{user: pricing, what: "removes its queue", try: deleteQueue(contract.PricingQuoteQueue.Name)},
		{user: pricing, what: "publishes as orders in somebody's queue", try: writeAs(orders, "", contract.BillingCharge.Name), code: preconditions},
		{user: pricing, what: "publishes as the operator in somebody's queue", try: writeAs(operator, "", contract.BillingCharge.Name), code: preconditions},

		// The operator moves dead letters, and changes nothing that is declared.
		{user: operator, what: "takes charges that are no dead letters", try: get(contract.BillingCharge.Name)},
		{user: operator, what: "empties a work queue", try: purge(contract.BillingCharge.Name)},
		{user: operator, what: "takes deadlines away", try: get("orders.payment-deadline")},
		{user: operator, what: "removes a dead-letter queue", try: deleteQueue(contract.DeadQueue(contract.BillingCharge.Name))},
		{user: operator, what: "removes the audit stream", try: deleteQueue(contract.Audit)},
		{user: operator, what: "sends commands by their exchange", try: write(contract.BillingCommands, "charge")},
		{user: operator, what: "lets orders expire by their exchange", try: write(contract.OrdersDeadlines, "expire")},
		{user: operator, what: "unbinds the audit stream", try: unbind(contract.OrdersEvents, "#", contract.Audit)},
		{user: operator, what: "declares an exchange", try: declareExchange("operator.own")},
		{user: operator, what: "publishes as billing", try: writeAs(billing, "", contract.PaymentShards[0].Name), code: preconditions},
	}
}

func TestWhatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	const (
		orders, billing, notifier = contract.OrdersUser, contract.BillingUser, contract.NotifierUser
		pricing, operator         = contract.PricingUser, contract.Operator
	)
	users := map[string]*amqp.Connection{}
	for _, u := range contract.All(0).Users {
		conn, err := dialAs(t, s.broker, u.Name, password)
		require.NoError(t, err)
		users[u.Name] = conn
	}
	// An exclusive queue: only the connection of orders may use it.
	ch, err := users[orders].Channel()
	require.NoError(t, err)
	private, err := ch.QueueDeclare("", false, false, true, false, nil)
	require.NoError(t, err)

	rows := append(refusedToOrdersAndBilling(), refusedToOthers()...)
	for user := range users {
		rows = append(rows,
			permission{user: user, what: "declares an exchange", try: declareExchange(user + ".mine")},
			permission{user: user, what: "declares a queue", try: declareQueue(user + ".mine")},
			permission{user: user, what: "declares a queue of the broker's names", try: declareQueue("amq.gen-mine")},
			permission{user: user, what: "declares an exchange of the broker's names", try: declareExchange("amq.gen-mine")},
			permission{user: user, what: "makes the dead letters another kind", try: declareExchange(contract.DeadLetters)},
			permission{user: user, what: "removes where dead letters go", try: deleteExchange(contract.DeadLetters)},
			permission{user: user, what: "uses the broker's own exchange", try: write("amq.topic", "x")},
			permission{user: user, what: "reads the broker's log", try: spyOn("amq.rabbitmq.log")},
			permission{user: user, what: "looks at an exchange that it has no right on", try: lookAtExchange("amq.topic")},
		)
		if user != orders {
			rows = append(rows,
				permission{user: user, what: "takes from a queue of orders' connection", try: get(private.Name), code: resourceLocked},
				permission{user: user, what: "removes a queue of orders' connection", try: deleteQueue(private.Name), code: resourceLocked},
			)
		}
	}
	for _, r := range rows {
		if r.code == 0 {
			r.code = accessRefused
		}
		t.Run(r.user+" "+r.what, func(t *testing.T) {
			code, reason := tryAs(t, users[r.user], r.try)
			require.Equal(t, r.code, code, reason)
		})
	}

	// The same attempts by users who have the right: they must succeed.
	for _, r := range []permission{
		{user: orders, what: "writes its events", try: writeAs(orders, contract.OrdersEvents, "order.paid.eu.standard")},
		{user: orders, what: "reads price changes", try: spyOn(contract.PricesChanged)},
		{user: orders, what: "reads a shard", try: consume(contract.PaymentShards[0].Name)},
		{user: orders, what: "dead-letters a message", try: write(contract.DeadLetters, contract.OrdersExpire.Name)},
		{user: billing, what: "reads charges", try: get(contract.BillingCharge.Name)},
		{user: billing, what: "looks at its queue", try: lookAtQueue(contract.BillingCharge.Name)},
		{user: notifier, what: "sends notifications", try: writeAs(notifier, contract.Notifications, "")},
		{user: pricing, what: "answers", try: write("", "amq.rabbitmq.reply-to.gone")},
		{user: operator, what: "reads dead letters", try: get(contract.DeadQueue(contract.BillingCharge.Name))},
		{user: operator, what: "reads the audit stream", try: consume(contract.Audit)},
		{user: operator, what: "empties dead letters", try: purge(contract.DeadQueue(contract.BillingCharge.Name))},
	} {
		t.Run(r.user+" "+r.what, func(t *testing.T) {
			code, reason := tryAs(t, users[r.user], r.try)
			require.Zero(t, code, reason)
		})
	}

	// Every name that the patterns in the contract do not allow is refused.
	t.Run("all other names", func(t *testing.T) {
		topology := contract.All(0)
		tried := 0
		for _, u := range topology.Users {
			tried += refusesAllElse(t, users[u.Name], u, topology)
		}
		t.Log(tried, "attempts")
		require.Greater(t, tried, 400)
	})
}

// refusesAllElse tries each right on each name that the user's patterns do not allow, and
// returns the number of attempts.
func refusesAllElse(t *testing.T, conn *amqp.Connection, u messaging.User, topology messaging.Topology) (tried int) {
	t.Helper()
	refused := func(pattern, name string, try attempt) {
		if regexp.MustCompile(pattern).MatchString(name) {
			return
		}
		tried++
		code, reason := tryAs(t, conn, try)
		require.Equal(t, accessRefused, code, "%s %s: %s", u.Name, name, reason)
	}
	exchanges := []string{"amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic"}
	for _, x := range topology.Exchanges {
		exchanges = append(exchanges, x.Name)
	}
	for _, x := range exchanges {
		refused(u.Configure, x, deleteExchange(x))
		refused(u.Write, x, write(x, ""))
		refused(u.Read, x, spyOn(x))
	}
	for _, q := range topology.Queues {
		refused(u.Configure, q.Name, deleteQueue(q.Name))
		refused(u.Read, q.Name, consume(q.Name))
		refused(u.Write, q.Name, unbind(contract.OpsHeartbeats, "", q.Name))
	}
	return tried
}

// All logins at once: the broker delays the answer to each refused one by 3 s.
func TestWhoMayLogIn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	another := messagingtest.Broker(t) // a virtual host that no service uses
	type login struct {
		vhost          *messagingtest.BrokerInfo
		user, password string
		code           int // 0 where the login is accepted
	}
	logins := []login{
		{s.broker, "guest", "guest", amqp.AccessRefused},
		{s.broker, "nobody", password, amqp.AccessRefused},
		{s.broker, "", "", amqp.AccessRefused},
	}
	for _, u := range contract.All(0).Users {
		logins = append(logins, login{s.broker, u.Name, password, 0}, login{another, u.Name, password, amqp.NotAllowed})
		for _, guess := range []string{"", u.Name, "guest", password + "x"} {
			logins = append(logins, login{s.broker, u.Name, guess, amqp.AccessRefused})
		}
	}
	outcomes := make([]error, len(logins))
	var wg sync.WaitGroup
	for i, l := range logins {
		wg.Go(func() { _, outcomes[i] = dialAs(t, l.vhost, l.user, l.password) })
	}
	wg.Wait()
	for i, l := range logins {
		if l.code == 0 {
			require.NoError(t, outcomes[i], l.user)
			continue
		}
		var refused *amqp.Error
		require.ErrorAs(t, outcomes[i], &refused, "%s with %q", l.user, l.password)
		require.Equal(t, l.code, refused.Code, refused.Reason)
	}
}

// The management API needs a tag, which users of services do not have.
func TestTheManagementAPIIsNotForServices(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	vhost := url.PathEscape(s.broker.VHost)
	for _, c := range []struct{ method, path, body string }{
		{http.MethodGet, "/api/whoami", ""},
		{http.MethodGet, "/api/overview", ""},
		{http.MethodGet, "/api/definitions", ""}, // contains the password hashes of all users
		{http.MethodGet, "/api/queues/" + vhost, ""},
		{http.MethodPut, "/api/policies/" + vhost + "/mine", `{"pattern":".*","definition":{"max-length":1},"priority":99,"apply-to":"queues"}`},
		{http.MethodDelete, "/api/policies/" + vhost + "/billing.charge", ""},
		{http.MethodPut, "/api/users/mine", `{"password":"mine","tags":"administrator"}`},
		{http.MethodPut, "/api/permissions/" + vhost + "/orders", `{"configure":".*","write":".*","read":".*"}`},
		{http.MethodDelete, "/api/queues/" + vhost + "/audit", ""},
		{http.MethodDelete, "/api/queues/" + vhost + "/billing.charge/contents", ""},
		{http.MethodPost, "/api/queues/" + vhost + "/billing.charge/get", `{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}`},
		{http.MethodPost, "/api/exchanges/" + vhost + "/billing.commands/publish", `{"properties":{},"routing_key":"charge","payload":"{}","payload_encoding":"string"}`},
		{http.MethodPut, "/api/parameters/shovel/" + vhost + "/mine", `{"value":{}}`},
		{http.MethodPut, "/api/vhosts/mine", ""},
		{http.MethodGet, "/api/connections", ""},
	} {
		for _, u := range append(contract.All(0).Users, messaging.User{Name: "guest"}) {
			if len(u.Tags) > 0 && c.method == http.MethodGet && c.path != "/api/definitions" {
				continue // the tag "monitoring" allows reading
			}
			secret := password
			if u.Name == "guest" {
				secret = "guest"
			}
			req, err := http.NewRequestWithContext(t.Context(), c.method, s.broker.ManagementURL+c.path, bytes.NewBufferString(c.body))
			require.NoError(t, err)
			req.SetBasicAuth(u.Name, secret)
			req.Header.Set("Content-Type", "application/json")
			res, err := s.http.Do(req)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s: %s %s", u.Name, c.method, c.path)
		}
	}
	differences, err := messaging.Verify(t.Context(), s.broker.Admin(), contract.All(0))
	require.NoError(t, err)
	require.Empty(t, differences)
}
