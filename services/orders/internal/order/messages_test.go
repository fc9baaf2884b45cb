package order_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/orders/internal/order"
)

func place(t *testing.T, tier string) *order.Order {
	t.Helper()
	r := request()
	r.Tier = tier
	o, err := order.New(r, total, at)
	require.NoError(t, err)
	return o
}

func decode[T any](t *testing.T, m messaging.Message) (body T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(m.Body, &body))
	return body
}

// event is the body of an event of the order, with a reason.
func event(o *order.Order, reason string) contract.OrderBody {
	return contract.OrderBody{
		OrderID: o.ID, CustomerID: o.CustomerID, Region: o.Region, Tier: o.Tier, Total: total, Reason: reason, At: at,
		Items: []contract.OrderItem{{SKU: "mug", Quantity: 2}, {SKU: "tshirt", Quantity: 1}},
	}
}

func TestPlacedMessages(t *testing.T) {
	t.Parallel()
	o := place(t, contract.TierExpress)
	messages, err := o.PlacedMessages(token)
	require.NoError(t, err)
	require.Len(t, messages, 3)
	for i, want := range []struct {
		kind  messaging.MessageType
		route messaging.Route
	}{
		{contract.OrderPlaced, messaging.Route{Exchange: contract.OrdersEvents, Key: "order.placed.eu.express"}},
		{contract.Charge, contract.ChargeRoute},
		{contract.PaymentDeadline, contract.PaymentDeadlineRoute},
	} {
		require.Equal(t, want.kind.Name, messages[i].Message.Type)
		require.Equal(t, want.route, messages[i].Route)
		require.Equal(t, o.ID, messages[i].Message.CorrelationID)
	}
	require.Equal(t, event(o, ""), decode[contract.OrderBody](t, messages[0].Message))
	require.Equal(t, contract.ChargeBody{
		PaymentID: o.PaymentID, OrderID: o.ID, Amount: total, PaymentToken: token,
		CustomerID: o.CustomerID, Region: o.Region, Tier: o.Tier,
	}, decode[contract.ChargeBody](t, messages[1].Message))
	require.Equal(t, contract.PaymentDeadlineBody{OrderID: o.ID}, decode[contract.PaymentDeadlineBody](t, messages[2].Message))

	ids := map[string]bool{}
	for _, m := range messages {
		encoded, err := json.Marshal(m)
		require.NoError(t, err)
		if m.Message.Type != contract.Charge.Name {
			require.NotContains(t, string(encoded)+string(m.Message.Body), token, "only the charge has the token")
		}
		ids[m.Message.ID] = true
	}
	require.Len(t, ids, 3)
}

func TestMessagesOfAnEffect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status order.Status
		kind   messaging.MessageType
		key    string
	}{
		{order.Paid, contract.OrderPaid, "order.paid.eu.standard"},
		{order.Declined, contract.OrderDeclined, "order.declined.eu.standard"},
		{order.Cancelled, contract.OrderCancelled, "order.cancelled.eu.standard"},
		{order.Refunded, contract.OrderRefunded, "order.refunded.eu.standard"},
	} {
		t.Run("announce "+string(c.status), func(t *testing.T) {
			t.Parallel()
			o := place(t, contract.TierStandard)
			o.Status = c.status
			o.History = append(o.History, order.Change{Status: c.status, At: at, Reason: "because"})
			messages, err := o.Messages(order.Announce)
			require.NoError(t, err)
			require.Len(t, messages, 1)
			require.Equal(t, messaging.Route{Exchange: contract.OrdersEvents, Key: c.key}, messages[0].Route)
			require.Equal(t, c.kind.Name, messages[0].Message.Type)
			require.Equal(t, o.ID, messages[0].Message.CorrelationID)
			require.Equal(t, event(o, "because"), decode[contract.OrderBody](t, messages[0].Message))
		})
	}

	t.Run("command refund", func(t *testing.T) {
		t.Parallel()
		o := place(t, contract.TierExpress)
		messages, err := o.Messages(order.CommandRefund)
		require.NoError(t, err)
		require.Len(t, messages, 1)
		require.Equal(t, contract.RefundRoute, messages[0].Route)
		require.Equal(t, contract.Refund.Name, messages[0].Message.Type)
		require.Equal(t, o.ID, messages[0].Message.CorrelationID)
		require.Equal(t, contract.RefundBody{
			PaymentID: o.PaymentID, OrderID: o.ID, Amount: total, CustomerID: o.CustomerID, Region: o.Region, Tier: o.Tier,
		}, decode[contract.RefundBody](t, messages[0].Message))
	})

	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		messages, err := place(t, contract.TierExpress).Messages(order.Nothing)
		require.NoError(t, err)
		require.Empty(t, messages)
	})
}

func TestCommandsHaveThePriorityOfTheirTier(t *testing.T) {
	t.Parallel()
	priorities := func(tier string) []uint8 {
		o := place(t, tier)
		placed, err := o.PlacedMessages(token)
		require.NoError(t, err)
		refund, err := o.Messages(order.CommandRefund)
		require.NoError(t, err)
		var list []uint8
		for _, m := range append(placed, refund...) {
			list = append(list, m.Message.Priority)
		}
		return list
	}
	express, standard := contract.Priority(contract.TierExpress), contract.Priority(contract.TierStandard)
	require.Greater(t, express, standard)
	require.Equal(t, []uint8{0, express, 0, express}, priorities(contract.TierExpress))
	require.Equal(t, []uint8{0, standard, 0, standard}, priorities(contract.TierStandard))
}
