package ledger

import (
	"fmt"
	"slices"
	"strings"

	"example.com/orderflow/contract"
)

// The kinds of findings. Check gives all but the last two, which are for whoever disturbs
// the system while it works.
const (
	Lost    = "lost"    // an order, or what had to be done or told because of it
	Doubled = "doubled" // an order, a capture or a refund
	Stuck   = "stuck"   // something has not come to its end
	Wrong   = "wrong"   // the books contradict each other
	Dead    = "dead"    // a message is in a dead-letter queue and should not be
	Missing = "missing" // a message should be in a dead-letter queue and is not
	Slow    = "slow"    // work went on too late after a fault
	Drill   = "drill"   // the drill itself did not work
)

// A Finding is something that must not be.
type Finding struct {
	Kind string `json:"kind"`
	What string `json:"what"`
}

// Error makes a finding an error, for a fault that shows one.
func (f Finding) Error() string { return f.Kind + ": " + f.What }

// findings collects what a check finds.
type findings []Finding

func (f *findings) add(kind, format string, args ...any) {
	*f = append(*f, Finding{kind, fmt.Sprintf(format, args...)})
}

// Check compares the books with each other. It gives what is wrong, sorted; nil says that
// every accepted order has come to its end, once, with its money where it belongs.
func (b Books) Check() []Finding {
	var found findings
	told := b.checkAccepted(&found)
	for id, o := range b.Orders {
		if !told[id] {
			found.add(Doubled, "order %s is in the database, and no customer was told of it", id)
		}
		if kind, what := b.checkMoney(id, o); kind != "" {
			found.add(kind, "order %s %s", id, what)
			continue // what had to be told of it cannot be known
		}
		for _, what := range b.untold(id, o) {
			found.add(Lost, "%s", what)
		}
	}
	for _, movements := range []map[string][]string{b.Captures, b.Refunds, b.Payments} {
		for id := range movements {
			if _, ok := b.Orders[id]; !ok && !told[id] {
				found.add(Wrong, "money moved for order %s, which nobody knows: %q", id, movements[id])
			}
		}
	}
	if n := len(b.Accepted) - b.Deadlines; n > 0 {
		found.add(Lost, "%d payment deadlines of %d orders never reached orders", n, len(b.Accepted))
	}
	for queue, n := range b.Waiting {
		found.add(Stuck, "%d messages wait in %s", n, queue)
	}
	b.checkDead(&found)
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Error(), b.Error()) })
	return found
}

// checkAccepted compares what customers were told with the database, and gives the orders
// that they were told of.
func (b Books) checkAccepted(found *findings) (told map[string]bool) {
	told = map[string]bool{}
	for _, id := range b.Accepted {
		if told[id] {
			found.add(Lost, "order %s is what two customers were told of", id)
		} else if _, ok := b.Orders[id]; !ok {
			found.add(Lost, "order %s was accepted and is not in the database", id)
		}
		told[id] = true
	}
	if b.GaveUp > 0 {
		found.add(Stuck, "%d customers gave up: their orders were never taken", b.GaveUp)
	}
	return told
}

// checkDead compares the dead letters with what belongs into dead-letter queues: the
// poison, and the charges that the provider never answers.
func (b Books) checkDead(found *findings) {
	for id, p := range b.Poison {
		if p.Stored && len(b.Dead[id]) == 0 {
			found.add(Missing, "poison %s, put into %s, is in no dead-letter queue", id, p.Queue)
		}
	}
	orders := map[string]bool{} // with a dead letter
	for _, letters := range b.Dead {
		orders[letters[0].Order] = true
	}
	for id := range b.Unanswered {
		if !orders[id] {
			found.add(Missing, "the charge of order %s, which the provider never answers, is in no dead-letter queue", id)
		}
	}
	for id, letters := range b.Dead {
		for _, l := range letters {
			if b.Unanswered[l.Order] && l.Queue == contract.DeadQueue(contract.BillingCharge.Name) {
				continue
			}
			if p, ok := b.Poison[id]; !ok || contract.DeadQueue(p.Queue) != l.Queue {
				found.add(Dead, "message %s of order %q died in %s: %s", id, l.Order, l.Queue, l.Reason)
			}
		}
	}
}

// ends says where the money must be for an order in its last state.
var ends = map[string]struct {
	payment            string // the state of billing's payment
	captured, refunded bool   // in billing's ledger, and by the provider
}{
	"paid":      {"captured", true, false},
	"declined":  {"declined", false, false},
	"cancelled": {"declined", false, false}, // had it been captured, late, it would be refunded
	"refunded":  {"refunded", true, true},
}

// terminal says whether this is an order's last state, with no refund on its way.
func (o Order) terminal() bool {
	_, known := ends[o.Status]
	return known && !o.RefundOpen
}

// charged says whether billing is done with an order. A charge that the provider never
// answers stays pending: people decide about it.
func (b Books) charged(id string) bool {
	payments := b.Payments[id]
	if b.Unanswered[id] {
		return len(payments) > 0
	}
	return len(payments) > 0 && !strings.HasSuffix(payments[0], " pending")
}

// checkMoney says what is wrong with an order's money: it must be where all books have
// it, once, and all of it. An empty kind says that nothing is wrong.
func (b Books) checkMoney(id string, o Order) (kind, what string) {
	switch {
	case len(b.Captures[id]) > 1:
		return Doubled, fmt.Sprintf("was captured %d times", len(b.Captures[id]))
	case len(b.Refunds[id]) > 1:
		return Doubled, fmt.Sprintf("was refunded %d times", len(b.Refunds[id]))
	case !o.terminal():
		return Stuck, fmt.Sprintf("is %s (refund open: %t)", o.Status, o.RefundOpen)
	case !b.charged(id):
		return Lost, fmt.Sprintf("is %s, and its charge never came to an end: %q", o.Status, b.Payments[id])
	case len(o.History) == 0 || o.History[len(o.History)-1] != o.Status:
		return Wrong, fmt.Sprintf("is %s, by its history %q", o.Status, o.History)
	}
	end := ends[o.Status]
	if b.Unanswered[id] {
		end.payment = "pending"
	}
	var captures, refunds, ledger []string
	if end.captured {
		captures, ledger = []string{o.Payment}, []string{o.Payment + " captured"}
	}
	if end.refunded {
		refunds, ledger = captures, append(ledger, o.Payment+" refunded")
	}
	const form = "payments %q, ledger %q, captures %q, refunds %q"
	got := fmt.Sprintf(form, b.Payments[id], b.Ledger[id], b.Captures[id], b.Refunds[id])
	if want := fmt.Sprintf(form, []string{o.Payment + " " + end.payment}, ledger, captures, refunds); got != want {
		return Wrong, fmt.Sprintf("is %s with %s; there must be %s", o.Status, got, want)
	}
	return "", ""
}

// owed are the dedupe keys of the mails and webhooks that must be sent for an order.
func (b Books) owed(id string, o Order) (mails, webhooks []string) {
	payment, _, _ := strings.Cut(o.Payment, " ")
	for _, status := range o.History {
		key := "order-" + status + ":" + id
		if status != "placed" && status != "refunded" {
			mails = append(mails, key)
		}
		if o.Express {
			webhooks = append(webhooks, key)
		}
	}
	if len(b.Captures[id]) > 0 {
		mails = append(mails, "receipt:"+payment)
	}
	if len(b.Refunds[id]) > 0 {
		mails = append(mails, "refund-receipt:"+payment)
	}
	return mails, webhooks
}

// untold is what was to be sent or announced for an order and was not: mails, webhooks,
// and events in the audit stream.
func (b Books) untold(id string, o Order) (missing []string) {
	mails, webhooks := b.owed(id, o)
	for _, key := range mails {
		if b.Mails[key] == 0 {
			missing = append(missing, "the mail "+key+" was never sent")
		}
	}
	for _, key := range webhooks {
		if b.Webhooks[key] == 0 {
			missing = append(missing, "the webhook "+key+" was never called")
		}
	}
	var events []string
	for _, status := range o.History {
		events = append(events, "order."+status+".v1")
	}
	for _, payment := range b.Ledger[id] {
		events = append(events, "payment."+payment[strings.LastIndex(payment, " ")+1:]+".v1")
	}
	if len(b.Ledger[id]) == 0 && !b.Unanswered[id] {
		events = append(events, contract.PaymentDeclined.Name)
	}
	for _, event := range events {
		if b.Events[Event{id, event}] == 0 {
			missing = append(missing, "the audit stream has no "+event+" of order "+id)
		}
	}
	return missing
}
