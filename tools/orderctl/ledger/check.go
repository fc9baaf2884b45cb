package ledger

import (
	"fmt"
	"slices"
	"strings"

	"example.com/orderflow/contract"
)

// The kinds of findings. Check returns all but the last two, which are for programs that inject
// faults.
const (
	Lost    = "lost"    // an order, or an effect or a notification of it
	Doubled = "doubled" // an order, a capture or a refund
	Stuck   = "stuck"   // something has not ended
	Wrong   = "wrong"   // the records contradict each other
	Dead    = "dead"    // a message is in a dead-letter queue and should not be
	Missing = "missing" // a message should be in a dead-letter queue and is not
	Slow    = "slow"    // work continued too late after a fault
	Drill   = "drill"   // the test program itself failed
)

// A Finding is something wrong that a check found.
type Finding struct {
	Kind string `json:"kind"`
	What string `json:"what"`
}

// Error makes a finding a Go error.
func (f Finding) Error() string { return f.Kind + ": " + f.What }

// findings collects the findings of a check.
type findings []Finding

func (f *findings) add(kind, format string, args ...any) {
	*f = append(*f, Finding{kind, fmt.Sprintf(format, args...)})
}

// Check compares the records with each other, and returns what is wrong, sorted. nil means that
// every accepted order exists once, has its final status, and that all records of its payment
// agree.
func (b Books) Check() []Finding {
	var found findings
	accepted := b.checkAccepted(&found)
	for id, o := range b.Orders {
		if !accepted[id] {
			found.add(Doubled, "order %s is in the database, but no customer got it as an answer", id)
		}
		if kind, what := b.checkMoney(id, o); kind != "" {
			found.add(kind, "order %s %s", id, what)
			continue // its notifications cannot be checked then
		}
		for _, what := range b.missing(id, o) {
			found.add(Lost, "%s", what)
		}
	}
	for _, movements := range []map[string][]string{b.Captures, b.Refunds, b.Payments} {
		for id := range movements {
			if _, ok := b.Orders[id]; !ok && !accepted[id] {
				found.add(Wrong, "money moved for order %s, which does not exist: %q", id, movements[id])
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

// checkAccepted compares the answers to customers with the database, and returns the accepted
// orders.
func (b Books) checkAccepted(found *findings) (accepted map[string]bool) {
	accepted = map[string]bool{}
	for _, id := range b.Accepted {
		if accepted[id] {
			found.add(Lost, "two customers got order %s as the answer", id)
		} else if _, ok := b.Orders[id]; !ok {
			found.add(Lost, "order %s was accepted and is not in the database", id)
		}
		accepted[id] = true
	}
	if b.GaveUp > 0 {
		found.add(Stuck, "%d customers gave up: their orders were never accepted", b.GaveUp)
	}
	return accepted
}

// checkDead compares the dead letters with those that must exist: the poison messages, and the
// charges that the provider never answers.
func (b Books) checkDead(found *findings) {
	for id, p := range b.Poison {
		if p.Stored && len(b.Dead[id]) == 0 {
			found.add(Missing, "poison message %s, published to %s, is in no dead-letter queue", id, p.Queue)
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
				found.add(Dead, "message %s of order %q is in %s and should not be: %s", id, l.Order, l.Queue, l.Reason)
			}
		}
	}
}

// ends says which records of the payment must exist for each final status of an order.
var ends = map[string]struct {
	payment            string // the state of billing's payment
	captured, refunded bool   // in billing's ledger, and by the provider
}{
	"paid":      {"captured", true, false},
	"declined":  {"declined", false, false},
	"cancelled": {"declined", false, false}, // if it were captured later, it would be refunded
	"refunded":  {"refunded", true, true},
}

// terminal says whether the order has a final status and no open refund.
func (o Order) terminal() bool {
	_, known := ends[o.Status]
	return known && !o.RefundOpen
}

// charged says whether billing has ended the charge of an order. A charge that the provider
// never answers stays pending, and counts as ended: operators must decide about it.
func (b Books) charged(id string) bool {
	payments := b.Payments[id]
	if b.Unanswered[id] {
		return len(payments) > 0
	}
	return len(payments) > 0 && !strings.HasSuffix(payments[0], " pending")
}

// checkMoney checks the payment of an order: all records must have it once, with the whole
// amount. An empty kind means that nothing is wrong.
func (b Books) checkMoney(id string, o Order) (kind, what string) {
	switch {
	case len(b.Captures[id]) > 1:
		return Doubled, fmt.Sprintf("was captured %d times", len(b.Captures[id]))
	case len(b.Refunds[id]) > 1:
		return Doubled, fmt.Sprintf("was refunded %d times", len(b.Refunds[id]))
	case !o.terminal():
		return Stuck, fmt.Sprintf("is %s (refund open: %t)", o.Status, o.RefundOpen)
	case !b.charged(id):
		return Lost, fmt.Sprintf("is %s, but its charge has not ended: %q", o.Status, b.Payments[id])
	case len(o.History) == 0 || o.History[len(o.History)-1] != o.Status:
		return Wrong, fmt.Sprintf("is %s, but its history is %q", o.Status, o.History)
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

// expected returns the dedupe keys of the mails and webhooks that must be sent for an order.
func (b Books) expected(id string, o Order) (mails, webhooks []string) {
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

// missing returns the mails, the webhooks and the events in the audit stream that an order must
// have and has not.
func (b Books) missing(id string, o Order) (list []string) {
	mails, webhooks := b.expected(id, o)
	for _, key := range mails {
		if b.Mails[key] == 0 {
			list = append(list, "the mail "+key+" was never sent")
		}
	}
	for _, key := range webhooks {
		if b.Webhooks[key] == 0 {
			list = append(list, "the webhook "+key+" was never sent")
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
			list = append(list, "the audit stream has no "+event+" of order "+id)
		}
	}
	return list
}
