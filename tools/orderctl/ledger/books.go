// Package ledger checks a run of the whole system by its books: what customers were told,
// and what orders, billing, the payment provider, the mailbox, the receiver of webhooks
// and the broker have written down. An order that was accepted must be there once, must
// have come to its end, and its money must be where everybody says it is.
//
// The chaos drill (e2e/chaos) fills a [Known] while it runs, reads the rest with a
// [Source], and asks [Books.Check].
package ledger

import (
	"strings"
	"time"
)

// Known is what the system itself cannot say: what its customers were told, and what was
// put into it on purpose.
type Known struct {
	Accepted   []string                 // the ids of the orders that were answered with 201, in that order
	GaveUp     int                      // customers who never got an answer to their order
	Poison     map[string]PoisonMessage // by message id
	Unanswered map[string]bool          // orders whose charge the payment provider never answers
}

// PoisonMessage is a message that no consumer can decode. It belongs into the dead-letter
// queue of the queue where it was put.
type PoisonMessage struct {
	Queue  string        // where it was put
	At     time.Duration // since the beginning of the run
	Stored bool          // the broker has confirmed it; until then it may be there or not
}

// Books are all that was written down of a run, as [Source.Read] and
// [Source.ReadMessages] find it. Amounts are text: "PAYMENT AMOUNT CURRENCY".
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

	// What is there when nothing moves any more: Source.ReadMessages.
	Dead   map[string][]DeadLetter // by message id
	Events map[Event]int           // how often the audit stream has each event
}

// Order is a row of orders' database.
type Order struct {
	Status     string
	Express    bool
	RefundOpen bool     // a refund was commanded, and its result is not in yet
	Payment    string   // the payment and its amount
	History    []string // every status that the order had, the oldest first
}

// DeadLetter is a message in a dead-letter queue.
type DeadLetter struct{ Queue, Reason, Order string }

// Event is something that was announced of an order.
type Event struct{ Order, Type string }

// kindOfReason is the reason without what it says of this one message.
func (l DeadLetter) kindOfReason() string {
	reason, _, _ := strings.Cut(strings.TrimPrefix(l.Reason, "messaging: "), ":")
	return reason
}

// Moving is how many orders and messages have not come to their end.
func (b Books) Moving() int {
	n := len(b.Waiting) + max(len(b.Accepted)-b.Deadlines, 0)
	for id, o := range b.Orders {
		if !o.terminal() || !b.charged(id) {
			n++
		}
	}
	return n
}
