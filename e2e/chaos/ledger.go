package main

import (
	"fmt"
	"slices"
	"strings"
)

// books are what everybody has written down: customers, orders, the payment
// provider, the mailbox and the webhooks' receiver, the broker.
type books struct {
	accepted []string          // orders that were answered with 201, as they came
	orders   map[string]order  // by id, of orders' database
	payments map[string]string // ids, by order, of what was captured
	captures map[string]int    // at the provider, by order
	refunds  map[string]int    // at the provider, by order
	mails    map[string]int    // that arrived, by dedupe key
	webhooks map[string]int    // that arrived, by dedupe key
	injected map[string]string
	dead     map[string][]deadLetter // by message id
	waiting  map[string]int          // messages in queues that should be empty
	events   map[event]int           // how often the audit stream has heard an event
}

type order struct {
	status     string
	refundOpen bool
	express    bool
}

// event is one that an order announces of itself.
type event struct{ order, kind string }

type deadLetter struct{ queue, reason string }

// A finding is something that must not be.
type finding struct {
	Kind string `json:"kind"` // lost, doubled, stuck, dead, missing or wrong
	What string `json:"what"`
}

func (f finding) String() string { return f.Kind + ": " + f.What }

// check compares the books with each other.
func (b books) check() []finding {
	var found []finding
	say := func(kind, format string, args ...any) {
		found = append(found, finding{kind, fmt.Sprintf(format, args...)})
	}
	for _, id := range b.accepted {
		o, ok := b.orders[id]
		captured, refunded := b.captures[id], b.refunds[id]
		switch {
		case !ok:
			say("lost", "order %s was accepted and is not in the database", id)
			continue
		case captured > 1:
			say("doubled", "order %s was captured %d times", id, captured)
		case refunded > 1:
			say("doubled", "order %s was refunded %d times", id, refunded)
		case !o.terminal():
			say("stuck", "order %s is %s (refund open: %t)", id, o.status, o.refundOpen)
			continue
		}
		if want, ok := moneyOf[o.status]; ok && (captured > 0) != want.captured || (refunded > 0) != want.refunded {
			say("wrong", "order %s is %s with %d captures and %d refunds", id, o.status, captured, refunded)
		}
		for _, note := range b.owed(id, o) {
			if b.mails[note] == 0 {
				say("lost", "the mail %s was never sent", note)
			}
		}
		if hook := "order-placed:" + id; o.express && b.webhooks[hook] == 0 {
			say("lost", "the webhook %s was never called", hook)
		}
		for _, kind := range []string{"order.placed.v1", "order." + o.status + ".v1"} {
			if b.events[event{id, kind}] == 0 {
				say("lost", "the audit stream has not heard %s of order %s", kind, id)
			}
		}
	}
	for id, queue := range b.injected {
		if len(b.dead[id]) == 0 {
			say("missing", "poison %s, put into %s, is in no dead-letter queue", id, queue)
		}
	}
	for id, letters := range b.dead {
		if b.injected[id] == "" {
			say("dead", "message %s died in %s: %s", id, letters[0].queue, letters[0].reason)
		}
	}
	for queue, n := range b.waiting {
		say("stuck", "%d messages wait in %s", n, queue)
	}
	slices.SortFunc(found, func(a, b finding) int { return strings.Compare(a.String(), b.String()) })
	return found
}

// moneyOf says what the provider must have done for an order in its last state.
var moneyOf = map[string]struct{ captured, refunded bool }{
	"paid":      {captured: true},
	"declined":  {},
	"cancelled": {},
	"refunded":  {captured: true, refunded: true},
}

// terminal is section 9's: the last state, and no refund on its way.
func (o order) terminal() bool {
	_, known := moneyOf[o.status]
	return known && !o.refundOpen
}

// owed are the mails that the customer of an order in its last state must have got.
func (b books) owed(id string, o order) []string {
	var mails []string
	if o.status != "refunded" { // that goes to the webhook; before it was paid, or cancelled
		mails = append(mails, "order-"+o.status+":"+id)
	}
	if b.captures[id] > 0 {
		mails = append(mails, "receipt:"+b.payments[id])
	}
	if b.refunds[id] > 0 {
		mails = append(mails, "refund-receipt:"+b.payments[id])
	}
	return mails
}

// moving is how many accepted orders have not come to their end.
func (b books) moving() int {
	n := 0
	for _, id := range b.accepted {
		if o, ok := b.orders[id]; ok && !o.terminal() {
			n++
		}
	}
	return n
}

// again is how many things came more than once: allowed for mails, webhooks and
// events, and counted.
func again[K comparable](counts map[K]int) int {
	n := 0
	for _, count := range counts {
		n += count - 1
	}
	return n
}

// deadBy counts dead letters by queue and reason.
func (b books) deadBy() map[string]int {
	counts := map[string]int{}
	for _, letters := range b.dead {
		reason, _, _ := strings.Cut(strings.TrimPrefix(letters[0].reason, "messaging: "), ":")
		counts[letters[0].queue+": "+reason]++
	}
	return counts
}

// some are the books of these orders only, for what befell those who came at a time.
func (b books) some(ids []string) tally {
	t := tally{States: map[string]int{}, Captures: map[int]int{}}
	for _, id := range ids {
		o := b.orders[id]
		t.States[o.status]++
		t.Captures[b.captures[id]]++
		for _, note := range []string{"order-paid:" + id, "order-declined:" + id, "order-cancelled:" + id, "receipt:" + b.payments[id], "refund-receipt:" + b.payments[id]} {
			t.Mails += b.mails[note]
			t.MailsAgain += max(b.mails[note]-1, 0)
		}
	}
	return t
}

// tally is what became of some orders.
type tally struct {
	States     map[string]int `json:"states"`
	Captures   map[int]int    `json:"orders_by_captures"` // how many orders have how many
	Mails      int            `json:"mails"`
	MailsAgain int            `json:"mails_again"` // of them, with the dedupe key of another
}
