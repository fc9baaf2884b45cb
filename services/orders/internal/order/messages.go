package order

import (
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// Outgoing is a message to be sent, with its route.
type Outgoing struct {
	Route   messaging.Route
	Message messaging.Message
}

// PlacedMessages are the messages of a new order: its event, the charge and the payment
// deadline. Only the charge has the payment token, which orders does not store elsewhere.
func (o *Order) PlacedMessages(paymentToken string) ([]Outgoing, error) {
	event, err := o.event(contract.OrderPlaced, "placed", "", o.History[0].At)
	if err != nil {
		return nil, err
	}
	charge, err := o.message(contract.Charge, contract.ChargeRoute, contract.ChargeBody{
		PaymentID: o.PaymentID, OrderID: o.ID, Amount: o.Total, PaymentToken: paymentToken,
		CustomerID: o.CustomerID, Region: o.Region, Tier: o.Tier,
	})
	if err != nil {
		return nil, err
	}
	charge.Message.Priority = contract.Priority(o.Tier)
	deadline, err := o.message(contract.PaymentDeadline, contract.PaymentDeadlineRoute, contract.PaymentDeadlineBody{OrderID: o.ID})
	if err != nil {
		return nil, err
	}
	return []Outgoing{event, charge, deadline}, nil
}

// Messages are the messages of an effect.
func (o *Order) Messages(effect Effect) ([]Outgoing, error) {
	switch effect {
	case Announce:
		last := o.History[len(o.History)-1]
		kinds := map[Status]messaging.MessageType{
			Paid: contract.OrderPaid, Declined: contract.OrderDeclined, Cancelled: contract.OrderCancelled, Refunded: contract.OrderRefunded,
		}
		event, err := o.event(kinds[o.Status], string(o.Status), last.Reason, last.At)
		return []Outgoing{event}, err
	case CommandRefund:
		refund, err := o.message(contract.Refund, contract.RefundRoute, contract.RefundBody{
			PaymentID: o.PaymentID, OrderID: o.ID, Amount: o.Total, CustomerID: o.CustomerID, Region: o.Region, Tier: o.Tier,
		})
		refund.Message.Priority = contract.Priority(o.Tier)
		return []Outgoing{refund}, err
	default:
		return nil, nil
	}
}

func (o *Order) event(kind messaging.MessageType, name, reason string, at time.Time) (Outgoing, error) {
	items := make([]contract.OrderItem, len(o.Items))
	for i, item := range o.Items {
		items[i] = contract.OrderItem(item)
	}
	return o.message(kind, messaging.Route{Exchange: kind.Exchange, Key: contract.OrderKey(name, o.Region, o.Tier)}, contract.OrderBody{
		OrderID: o.ID, CustomerID: o.CustomerID, Region: o.Region, Tier: o.Tier, Total: o.Total, Items: items, Reason: reason, At: at,
	})
}

func (o *Order) message(kind messaging.MessageType, route messaging.Route, body any) (Outgoing, error) {
	m, err := messaging.NewMessage(kind, body)
	if err != nil {
		return Outgoing{}, err
	}
	m.CorrelationID = o.ID
	return Outgoing{Route: route, Message: m}, nil
}
