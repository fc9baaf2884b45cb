package contract

import (
	"time"

	"example.com/orderflow/pkg/messaging"
)

// BillingUser is the broker user of the billing service.
const BillingUser = "billing"

// Exchanges that billing owns.
const (
	// BillingCommands (direct) takes commands for billing. It has no alternate exchange: a
	// command that no queue takes is returned to its sender.
	BillingCommands = "billing.commands"
	// BillingEvents (fanout) carries what happened to payments, key = order id.
	BillingEvents = "billing.events"
)

// Message types that billing publishes.
var (
	PaymentCaptured = messaging.MessageType{Name: "payment.captured.v1", Exchange: BillingEvents, Owner: BillingUser}
	PaymentDeclined = messaging.MessageType{Name: "payment.declined.v1", Exchange: BillingEvents, Owner: BillingUser}
	PaymentRefunded = messaging.MessageType{Name: "payment.refunded.v1", Exchange: BillingEvents, Owner: BillingUser}
)

// PaymentBody is the body of every payment.*.v1.
type PaymentBody struct {
	PaymentID  string    `json:"payment_id"`
	OrderID    string    `json:"order_id"`
	CustomerID string    `json:"customer_id"`
	Region     string    `json:"region"`
	Tier       string    `json:"tier"`
	Amount     Money     `json:"amount"`
	Attempts   int       `json:"attempts"`
	Reason     string    `json:"reason,omitempty"`
	At         time.Time `json:"at"`
}

// PaymentRoute is the route of the events of an order's payment. The key is the order id,
// whose hash chooses the shard.
func PaymentRoute(orderID string) messaging.Route {
	return messaging.Route{Exchange: BillingEvents, Key: orderID}
}

// Work queues that billing's replicas compete on.
var (
	BillingCharge = workQueue("billing.charge")
	BillingRefund = workQueue("billing.refund")
)

func billingTopology() messaging.Topology {
	queues, bindings := withDeadQueues(BillingCharge, BillingRefund)
	return messaging.Topology{
		Exchanges: []messaging.Exchange{
			{Name: BillingCommands, Kind: messaging.Direct},
			{Name: BillingEvents, Kind: messaging.Fanout, Alternate: Unrouted},
		},
		Queues: queues,
		Bindings: append(bindings,
			messaging.Binding{Source: BillingCommands, Destination: BillingCharge.Name, Key: ChargeRoute.Key},
			messaging.Binding{Source: BillingCommands, Destination: BillingRefund.Name, Key: RefundRoute.Key},
		),
		Users: []messaging.User{service(BillingUser,
			[]string{BillingEvents, DeadLetters}, []string{BillingCharge.Name, BillingRefund.Name})},
		Types: []messaging.MessageType{PaymentCaptured, PaymentDeclined, PaymentRefunded},
	}
}
