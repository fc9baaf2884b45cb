// Package order is what an order is and how it moves. It knows no database, no
// broker and no HTTP.
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

// Status is where an order is.
type Status string

// The statuses of an order.
const (
	Placed    Status = "placed"
	Paid      Status = "paid"
	Declined  Status = "declined"
	Cancelled Status = "cancelled"
	Refunded  Status = "refunded"
)

// Statuses are all there are.
var Statuses = []Status{Placed, Paid, Declined, Cancelled, Refunded}

// Order is one order.
type Order struct {
	ID         string
	CustomerID string
	Region     string
	Tier       string
	Status     Status
	// RefundOpen says that a refund was commanded and is not in yet.
	RefundOpen bool
	// PaymentID names the one payment of the order, at the provider too.
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

// moment is a time as databases and other services keep it: in UTC, to the microsecond.
// An order says the same time to whoever asks first and to whoever asks later.
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

// Effect is what has to be told, beside the new status.
type Effect string

// The effects of an event.
const (
	// Nothing: the event came again, or was overtaken. It is counted and logged.
	Nothing Effect = ""
	// Announce: publish the order's new status.
	Announce Effect = "announce"
	// CommandRefund: the money has to go back.
	CommandRefund Effect = "command refund"
)

// step is one row of the state table.
type step struct {
	from   Status
	event  Event
	to     Status
	effect Effect
}

// table is all that can happen. What is not in it changes nothing.
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

// Apply moves the order by an event. An event that came before, or too late,
// changes nothing.
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
