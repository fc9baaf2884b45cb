// Package ledger checks a run of the whole system. It compares the answers that customers got
// with the records of orders, billing, the payment provider, the mail server, the receiver of
// webhooks and the broker. Each accepted order must exist once and have its final status, and
// all records of its payment must agree.
//
// `make chaos` (e2e/chaos) fills a [Known] during the run, reads the rest with a [Source], and
// calls [Books.Check].
package ledger

import (
	"strings"
	"time"
)

// Known is what the records of the system do not have: the answers to customers, and the
// messages that were injected on purpose.
type Known struct {
	Accepted   []string                 // ids of the orders that were answered with 201, in this order
	GaveUp     int                      // number of customers whose order was never answered
	Poison     map[string]PoisonMessage // by message id
	Unanswered map[string]bool          // orders whose charge the payment provider never answers
}

// PoisonMessage is a message that no consumer can decode. It must end in the dead-letter queue
// of the queue to which it was published.
type PoisonMessage struct {
	Queue  string        // to which it was published
	At     time.Duration // since the beginning of the run
	Stored bool          // the broker has confirmed it; otherwise it may exist or not
}

// Books are all records of a run, read by [Source.Read] and [Source.ReadMessages]. Amounts are
// text: "PAYMENT AMOUNT CURRENCY".
type Books struct {
	Known

	Orders    map[string]Order    // by id
	Deadlines int                 // payment deadlines that have reached orders
	Payments  map[string][]string // billing's payments by order: the amount, and the payment's state
	Ledger    map[string][]string // billing's ledger by order: the amount, and "captured" or "refunded"
	Captures  map[string][]string // the provider's captures by order: amounts
	Refunds   map[string][]string // the provider's refunds by order: amounts
	Mails     map[string]int      // mails that arrived, by dedupe key
	Webhooks  map[string]int      // webhooks that arrived, by dedupe key
	Waiting   map[string]int      // messages by queue and outbox, where any wait for a service

	// Read by Source.ReadMessages, when all work has ended.
	Dead   map[string][]DeadLetter // by message id
	Events map[Event]int           // how often the audit stream has each event
}

// Order is a row of orders' database.
type Order struct {
	Status     string
	Express    bool
	RefundOpen bool     // a refund was commanded, and its event has not arrived
	Payment    string   // the payment and its amount
	History    []string // every status that the order had, the oldest first
}

// DeadLetter is a message in a dead-letter queue.
type DeadLetter struct{ Queue, Reason, Order string }

// Event is an event of an order.
type Event struct{ Order, Type string }

// kindOfReason is the reason without the details of this message.
func (l DeadLetter) kindOfReason() string {
	reason, _, _ := strings.Cut(strings.TrimPrefix(l.Reason, "messaging: "), ":")
	return reason
}

// Moving is the number of orders and messages whose work has not ended.
func (b Books) Moving() int {
	n := len(b.Waiting) + max(len(b.Accepted)-b.Deadlines, 0)
	for id, o := range b.Orders {
		if !o.terminal() || !b.charged(id) {
			n++
		}
	}
	return n
}
