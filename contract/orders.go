package contract

import (
	"fmt"
	"regexp"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// OrdersUser is the broker user of the orders service.
const OrdersUser = "orders"

// Exchanges and queues that orders owns.
const (
	// OrdersEvents (topic) carries what happened to orders, see [OrderKey].
	OrdersEvents = "orders.events"
	// OrdersDeadlines (direct) carries payment deadlines, before and after they expire.
	OrdersDeadlines = "orders.deadlines"
	// OrdersPayments (x-modulus-hash) spreads payment events over the shards by order id.
	OrdersPayments = "orders.payments"

	keyDeadline = "deadline"
	keyExpire   = "expire"
)

// Message types that orders publishes.
var (
	OrderPlaced     = messaging.MessageType{Name: "order.placed.v1", Exchange: OrdersEvents, Owner: OrdersUser}
	OrderPaid       = messaging.MessageType{Name: "order.paid.v1", Exchange: OrdersEvents, Owner: OrdersUser}
	OrderDeclined   = messaging.MessageType{Name: "order.declined.v1", Exchange: OrdersEvents, Owner: OrdersUser}
	OrderCancelled  = messaging.MessageType{Name: "order.cancelled.v1", Exchange: OrdersEvents, Owner: OrdersUser}
	OrderRefunded   = messaging.MessageType{Name: "order.refunded.v1", Exchange: OrdersEvents, Owner: OrdersUser}
	PaymentDeadline = messaging.MessageType{Name: "payment.deadline.v1", Exchange: OrdersDeadlines, Owner: OrdersUser}
)

// Commands that orders gives to billing, through billing's exchange.
var (
	Charge = messaging.MessageType{Name: "charge.v1", Exchange: BillingCommands, Owner: OrdersUser}
	Refund = messaging.MessageType{Name: "refund.v1", Exchange: BillingCommands, Owner: OrdersUser}
)

// Routes of the commands and deadlines.
var (
	ChargeRoute          = messaging.Route{Exchange: BillingCommands, Key: "charge"}
	RefundRoute          = messaging.Route{Exchange: BillingCommands, Key: "refund"}
	PaymentDeadlineRoute = messaging.Route{Exchange: OrdersDeadlines, Key: keyDeadline}
)

// Limits of an order, which orders and pricing-rpc both check.
const (
	MaxItems    = 50
	MaxQuantity = 1000
)

// All regions and tiers.
var (
	Regions = []string{RegionEU, RegionUS, RegionAPAC}
	Tiers   = []string{TierStandard, TierExpress}
)

// customerID has no dot at an end and no two in a row: it becomes a part of a mail
// address, see [DefaultAddress].
var customerID = regexp.MustCompile(`^[A-Za-z0-9](\.?[A-Za-z0-9_-])*$`)

const maxCustomerID = 64

// ValidCustomerID says whether a text can be a customer's id: 1 to 64 letters, digits,
// dashes, underscores and single dots, of which the first is a letter or digit and the
// last is not a dot. Orders accepts no other, so notifier can make a mail address of each.
func ValidCustomerID(id string) bool { return len(id) <= maxCustomerID && customerID.MatchString(id) }

// OrderBody is the body of every order.*.v1.
type OrderBody struct {
	OrderID    string      `json:"order_id"`
	CustomerID string      `json:"customer_id"`
	Region     string      `json:"region"`
	Tier       string      `json:"tier"`
	Total      Money       `json:"total"`
	Items      []OrderItem `json:"items"`
	Reason     string      `json:"reason,omitempty"`
	At         time.Time   `json:"at"`
}

// OrderItem is one line of an order.
type OrderItem struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// ChargeBody is the body of charge.v1. The payment id is the idempotency key
// at the payment provider.
type ChargeBody struct {
	PaymentID    string `json:"payment_id"`
	OrderID      string `json:"order_id"`
	Amount       Money  `json:"amount"`
	PaymentToken string `json:"payment_token"`
	CustomerID   string `json:"customer_id"`
	Region       string `json:"region"`
	Tier         string `json:"tier"`
}

// RefundBody is the body of refund.v1.
type RefundBody struct {
	PaymentID  string `json:"payment_id"`
	OrderID    string `json:"order_id"`
	Amount     Money  `json:"amount"`
	CustomerID string `json:"customer_id"`
	Region     string `json:"region"`
	Tier       string `json:"tier"`
}

// PaymentDeadlineBody is the body of payment.deadline.v1.
type PaymentDeadlineBody struct {
	OrderID string `json:"order_id"`
}

// OrderKey is the routing key of an order event: order.<event>.<region>.<tier>,
// where the event is placed, paid, declined, cancelled or refunded.
func OrderKey(event, region, tier string) string {
	return fmt.Sprintf("order.%s.%s.%s", event, region, tier)
}

// paymentShards is the number of queues for payment events. It must not change while events
// are published, since nearly every order would get another queue. The procedure is in
// docs/runbooks/resharding.md.
const paymentShards = 4

var payments = messaging.Sharded(messaging.Exchange{Name: OrdersPayments, Alternate: Unrouted}, paymentShards, paymentShard())

// PaymentShards are the queues of payment events. All events of an order are in one of them,
// in order.
var PaymentShards = payments.Queues

// paymentShard keeps the order of its messages, so the consumer keeps a failed message and
// tries it again, with delays from 100 ms to 5 s.
func paymentShard() messaging.Queue {
	q := workQueue(OrdersPayments)
	q.Retry = messaging.Retry{Limit: retryLimit}
	q.ConsumerTimeout = 5 * time.Minute
	return q
}

// OrdersExpire holds the deadlines that have passed.
var OrdersExpire = workQueue("orders.expire")

// OrdersPaymentDeadline is a queue without a consumer: a message waits in it until its time
// to live is over, and is then dead-lettered to [OrdersExpire]. The time to live is set for
// the queue and not for each message, because messages of a quorum queue expire only at its
// head.
func OrdersPaymentDeadline(ttl time.Duration) messaging.Queue {
	return messaging.Queue{
		Name:       "orders.payment-deadline",
		Type:       messaging.Quorum,
		MaxLength:  workQueueLength,
		Overflow:   messaging.RejectPublish,
		MessageTTL: ttl,
		DeadLetter: &messaging.DeadLetter{Exchange: OrdersDeadlines, Key: keyExpire},
	}
}

func ordersTopology(paymentDeadline time.Duration) messaging.Topology {
	queues, bindings := withDeadQueues(append([]messaging.Queue{OrdersExpire}, PaymentShards...)...)
	waiting := OrdersPaymentDeadline(paymentDeadline)
	bindings = append(bindings,
		messaging.Binding{Source: OrdersDeadlines, Destination: waiting.Name, Key: keyDeadline},
		messaging.Binding{Source: OrdersDeadlines, Destination: OrdersExpire.Name, Key: keyExpire},
		messaging.Binding{Source: BillingEvents, Destination: OrdersPayments, ToExchange: true},
	)
	bindings = append(bindings, payments.Bindings...)
	reads := []string{OrdersExpire.Name, PricesChanged}
	for _, shard := range PaymentShards {
		reads = append(reads, shard.Name)
	}
	return messaging.Topology{
		Exchanges: []messaging.Exchange{
			{Name: OrdersEvents, Kind: messaging.Topic, Alternate: Unrouted},
			{Name: OrdersDeadlines, Kind: messaging.Direct},
			payments.Exchanges[0],
		},
		Queues:   append(queues, waiting),
		Bindings: bindings,
		Users: []messaging.User{service(OrdersUser,
			[]string{OrdersEvents, OrdersDeadlines, BillingCommands, PricingRequests, DeadLetters}, reads)},
		Types: []messaging.MessageType{OrderPlaced, OrderPaid, OrderDeclined, OrderCancelled, OrderRefunded,
			PaymentDeadline, Charge, Refund, PricingQuote, PricingCatalogue},
	}
}
