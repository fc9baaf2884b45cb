// Package order has the rules of orders: their data, their states, and the use cases. It has
// no code for the database, the broker or HTTP.
//
// The state of an order changes as follows:
//
//	          payment captured                 payment refunded
//	placed ───────────────────────▶ paid ─────────────────────────▶ refunded
//	  │ │                            ╎ customer cancels: refund       ▲ ▲
//	  │ │                            ╎ command, still paid            │ │
//	  │ │ payment declined                                            │ │
//	  │ └──────────────▶ declined ────────────────────────────────────┘ │
//	  │                   ╎ payment captured after all: refund          │
//	  │                   ╎ command, still declined                     │
//	  │ deadline, or customer cancels                                   │
//	  └──────────────▶ cancelled ───────────────────────────────────────┘
//	                      ╎ payment captured, late: refund command,
//	                      ╎ still cancelled
package order

import (
	"time"

	"example.com/orderflow/contract"
)

// Status is the state of an order.
type Status string

// The statuses of an order.
const (
	Placed    Status = "placed"
	Paid      Status = "paid"
	Declined  Status = "declined"
	Cancelled Status = "cancelled"
	Refunded  Status = "refunded"
)

// Statuses are all statuses.
var Statuses = []Status{Placed, Paid, Declined, Cancelled, Refunded}

// Order is one order.
type Order struct {
	ID         string
	CustomerID string
	Region     string
	Tier       string
	Status     Status
	// RefundOpen says that a refund was commanded, and that its event has not arrived.
	RefundOpen bool
	// PaymentID is the id of the order's only payment, also at the provider.
	PaymentID string
	Total     contract.Money
	Items     []Item
	History   []Change
}

// Item is one line of an order.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Change is one step of an order's history.
type Change struct {
	Status Status    `json:"status"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// moment converts a time to UTC and microseconds, as the database stores it. So the first
// answer has the same time as later ones.
func moment(at time.Time) time.Time { return at.UTC().Truncate(time.Microsecond) }

// Event is something that happens to an order.
type Event string

// What happens to orders.
const (
	PaymentCaptured Event = "payment captured"
	PaymentDeclined Event = "payment declined"
	PaymentRefunded Event = "payment refunded"
	DeadlinePassed  Event = "payment deadline passed"
	CustomerCancels Event = "customer cancels"
)

// Effect says which message a change causes.
type Effect string

// The effects of an event.
const (
	// Nothing: the event is a copy, or came too late. It is counted and logged.
	Nothing Effect = ""
	// Announce: publish an event with the order's new status.
	Announce Effect = "announce"
	// CommandRefund: send billing the command to refund the payment.
	CommandRefund Effect = "command refund"
)

// step is one row of the state table.
type step struct {
	from   Status
	event  Event
	to     Status
	effect Effect
}

// table has all changes. An event that is not in it for a status changes nothing.
var table = []step{
	{Placed, PaymentCaptured, Paid, Announce},
	{Placed, PaymentDeclined, Declined, Announce},
	{Placed, DeadlinePassed, Cancelled, Announce},
	{Placed, CustomerCancels, Cancelled, Announce},
	{Paid, CustomerCancels, Paid, CommandRefund},
	{Cancelled, PaymentCaptured, Cancelled, CommandRefund},
	{Declined, PaymentCaptured, Declined, CommandRefund},
	{Paid, PaymentRefunded, Refunded, Announce},
	{Cancelled, PaymentRefunded, Refunded, Announce},
	{Declined, PaymentRefunded, Refunded, Announce},
}

// Apply changes the order because of an event, and returns the effect. A copy of an event, or
// an event that came too late, changes nothing.
func (o *Order) Apply(event Event, reason string, at time.Time) Effect {
	for _, s := range table {
		if s.from != o.Status || s.event != event {
			continue
		}
		if s.effect == CommandRefund {
			if o.RefundOpen {
				return Nothing
			}
			o.RefundOpen = true
			return CommandRefund
		}
		o.Status = s.to
		o.RefundOpen = false
		o.History = append(o.History, Change{Status: s.to, At: moment(at), Reason: reason})
		return s.effect
	}
	return Nothing
}
