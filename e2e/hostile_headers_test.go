package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// Hostile headers do not change the effect of a valid message: it has its effect once. The
// messages of each step are taken out of their queues and published again with other headers.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	operator, raw, tried := s.as(contract.Operator), s.raw(), matrix{}
	take := func(queue string, n int) (list []amqp.Delivery) {
		for range n {
			list = append(list, s.takeOne(raw, queue))
		}
		return list
	}
	disguise := func(list []amqp.Delivery, queues ...string) { s.disguise(operator, tried, list, queues...) }
	// basic.get does not work on a shard, since it has a single active consumer. So payment
	// events go to a queue of the test first.
	const aside = "aside"
	var shards []string
	for _, q := range contract.PaymentShards {
		shards = append(shards, q.Name)
	}
	_, err := raw.QueueDeclare(aside, true, false, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, raw.QueueBind(aside, "", contract.BillingEvents, false, nil))
	require.NoError(t, raw.ExchangeUnbind(contract.OrdersPayments, "", contract.BillingEvents, false, nil))
	each := len(hostileHeaders)

	s.startPricing()
	orders := s.startOrders()
	var late, paid []orderView
	for i := range each {
		late = append(late, s.place(fmt.Sprint("late-", i), contract.TierExpress, "tok_ok"))
	}
	disguise(take("orders.payment-deadline", each), contract.OrdersExpire.Name)
	for _, o := range late {
		s.becomes(o.ID, "cancelled")
	}
	for i := range each {
		paid = append(paid, s.place(fmt.Sprint("paid-", i), contract.TierExpress, "tok_ok"))
	}
	s.depth(contract.BillingCharge.Name, 2*each)
	orders.Stop()

	disguise(take(contract.BillingCharge.Name, 2*each), contract.BillingCharge.Name)
	billing := s.startBilling(4)
	disguise(take(aside, 2*each), shards...)
	billing.Stop()
	s.orders = nil
	orders = s.startOrders()
	for _, o := range paid {
		s.becomes(o.ID, "paid")
		require.Equal(t, http.StatusAccepted, s.cancel(o.ID))
	}
	s.depth(contract.BillingRefund.Name, 2*each) // captured after the cancellation, or cancelled after the capture
	orders.Stop()

	disguise(take(contract.BillingRefund.Name, 2*each), contract.BillingRefund.Name)
	s.startBilling(4)
	disguise(take(aside, 2*each), shards...)
	s.orders = nil
	s.startOrders()
	for _, o := range slices.Concat(late, paid) {
		s.becomes(o.ID, "refunded")
		require.Len(t, s.captures(o.ID), 1)
		require.Len(t, s.refunds(o.ID), 1)
	}

	for queue, n := range map[string]int{contract.NotifierOrders.Name: 6 * each, contract.NotifierReceipts.Name: 4 * each} {
		s.depth(queue, n)
		disguise(take(queue, n), queue)
	}
	s.notifyDirectly(operator, tried)
	s.startNotifier()
	for i := range hostileHeaders {
		for _, o := range []struct {
			orderView
			customer, became, event string
		}{{late[i], "late", "is cancelled", "order-cancelled"}, {paid[i], "paid", "is paid", "order-paid"}} {
			s.eventuallySame([]string{"Order " + o.ID + " " + o.became, "Receipt for order " + o.ID, "Refund for order " + o.ID},
				func() []string { return s.subjects(fmt.Sprint(o.customer, "-", i)) })
			s.eventuallySame([]string{"order-placed", o.event, "order-refunded"}, func() []string { return s.webhooks(o.ID) })
		}
	}
	for i := range len(hostileHeaders) + 1 {
		name := fmt.Sprint("direct-", i)
		s.eventuallySame([]string{"Order " + name + " is paid"}, func() []string { return s.subjects(name) })
		s.eventuallySame([]string{"order-paid"}, func() []string { return s.webhooks(name) })
	}
	for queue := range kinds {
		tried.covers(t, queue, harmless)
		s.depth(queue, 0)
		s.depth(contract.DeadQueue(queue), 0)
	}
	require.Empty(t, s.logs.FilterLevelExact(zap.ErrorLevel).All())
}

// disguise publishes messages with hostile headers to queues, one after the other.
func (s *system) disguise(ch *amqp.Channel, tried matrix, list []amqp.Delivery, queues ...string) {
	for i, d := range list {
		queue, headers := queues[i%len(queues)], amqp.Table{}
		maps.Copy(headers, d.Headers)
		maps.Copy(headers, hostileHeaders[i%len(hostileHeaders)])
		s.confirm(ch, amqp.Publishing{
			MessageId: d.MessageId, Type: d.Type, CorrelationId: d.CorrelationId, ContentType: d.ContentType, DeliveryMode: d.DeliveryMode,
			Priority: d.Priority, Timestamp: d.Timestamp, AppId: d.AppId, UserId: contract.Operator, ReplyTo: "amq.gen-nobody", Headers: headers, Body: d.Body,
		}, queue)
		tried.add(queue, "every header")
		tried.add(queue, "wrong reply-to")
	}
}

// notifyDirectly publishes notifications with hostile headers to the queues of both channels,
// and one without a message id, which is recognised by its dedupe key.
func (s *system) notifyDirectly(ch *amqp.Channel, tried matrix) {
	s.t.Helper()
	for i, headers := range append(hostileHeaders, nil) {
		for _, queue := range []string{contract.NotifierEmail.Name, contract.NotifierWebhook.Name} {
			m := good(s.t, queue)
			m.Headers, m.ReplyTo = headers, "amq.gen-nobody"
			if headers == nil {
				m.MessageId = ""
			}
			name := fmt.Sprint("direct-", i)
			set("recipient", name+"@example.com")(&m)
			set("dedupe_key", name)(&m)
			set("data", map[string]string{"order_id": name})(&m)
			s.confirm(ch, m, queue)
			tried.add(queue, "every header")
			tried.add(queue, "wrong reply-to")
		}
	}
}

// Headers that are nested too deep for the client library end the connection of the consumer
// that receives them. After the delivery limit the broker dead-letters the message.
func TestHeadersThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	shards, operator := contract.PaymentShards, s.as(contract.Operator)
	for _, shard := range shards {
		m := good(t, shard.Name)
		m.Headers = amqp.Table{"deep": nested(deepest)}
		s.confirm(operator, m, shard.Name)
	}
	for _, shard := range shards {
		messagingtest.Eventually(t, 2*time.Minute, func() (bool, string) {
			n := s.broker.Depth(t, contract.DeadQueue(shard.Name))
			return n == 1, fmt.Sprint(n)
		})
	}
	s.startBilling(4)
	o := s.place("ada", contract.TierStandard, "tok_ok")
	s.becomes(o.ID, "paid")
}

// The exclusive queues of replicas have no dead letters. A message of an unknown kind causes
// one call for the catalogue, and the next message is handled.
func TestHostilePriceChanges(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	s.startOrders()
	lamps := func(want int) {
		for _, replica := range s.orders {
			messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
				status, _, answer, err := s.try(replica.URL, "", orderBody("ivan", contract.TierStandard, "tok_ok", "lamp"))
				require.NoError(t, err)
				return status == want, string(answer)
			})
		}
	}
	body, err := contract.Fixture(contract.PriceChanged.Name)
	require.NoError(t, err)
	as, sent := map[string]*amqp.Channel{contract.PricingUser: s.as(contract.PricingUser), "admin": s.as("admin")}, 0
	publish := func(user string, spoil func(m *amqp.Publishing)) {
		m := amqp.Publishing{
			MessageId: uuid.NewString(), Type: contract.PriceChanged.Name, ContentType: "application/json", UserId: user, Body: body,
		}
		spoil(&m)
		confirmation, err := as[user].PublishWithDeferredConfirm(contract.PricesChanged, "", true, false, m)
		require.NoError(t, err)
		stored, err := confirmation.WaitContext(t.Context())
		require.NoError(t, err)
		require.True(t, stored)
		sent++
	}
	for _, row := range join(spoilers, withoutID, money("price")) {
		publish(contract.PricingUser, row.spoil)
	}
	for _, headers := range hostileHeaders {
		publish(contract.PricingUser, func(m *amqp.Publishing) { m.Headers, m.ReplyTo = headers, "amq.gen-nobody" })
	}
	publish("admin", func(m *amqp.Publishing) { m.UserId = "" })
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		heard := s.handled("(server-named)", messaging.Acked) + s.handled("(server-named)", messaging.Dropped)
		return heard == sent*len(s.orders), fmt.Sprint(heard)
	})

	lamps(http.StatusUnprocessableEntity) // each replica has the catalogue in its cache
	require.Equal(t, http.StatusOK, s.putPrice("lamp", operatorToken))
	lamps(http.StatusCreated)
	for _, replica := range s.orders {
		status, ready := s.get(replica.URL + "/readyz")
		require.Equal(t, http.StatusOK, status, ready)
	}
	s.depth(contract.Unrouted, 0)
	require.Empty(t, s.logs.FilterLevelExact(zap.ErrorLevel).All())
}
