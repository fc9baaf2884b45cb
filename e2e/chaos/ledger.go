package main

import (
	"fmt"
	"slices"
	"strings"
)

// books are what everybody has written down: customers, orders, the payment
// provider, the broker.
type books struct {
	accepted []string         // orders that were answered with 201
	orders   map[string]order // by id, of orders' database
	captures map[string]int   // at the provider, by order
	refunds  map[string]int   // at the provider, by order
	mails    map[string]int   // that arrived, by dedupe key
	injected map[string]string
	dead     map[string][]deadLetter // by message id
	waiting  map[string]int          // messages in queues that should be empty
}

type order struct {
	status     string
	refundOpen bool
}

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

// duplicates is how many mails came more than once: allowed, and counted.
func (b books) duplicates() int {
	n := 0
	for _, count := range b.mails {
		n += count - 1
	}
	return n
}
