package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"example.com/orderflow/contract"
)

// A finding is something that must not be. A fault may return one as its error.
type finding struct {
	Kind string `json:"kind"` // one of kinds
	What string `json:"what"`
}

// kinds of findings, and what they are counted as in the last line.
var kinds = []struct{ kind, counted string }{
	{"lost", "lost"}, {"doubled", "doubled"}, {"stuck", "stuck"}, {"wrong", "wrong"}, {"dead", "dead that should live"},
	{"missing", "poison missing"}, {"slow", "slow to recover"}, {"drill", "troubles of the drill"},
}

func (f finding) Error() string { return f.Kind + ": " + f.What }

// check compares the books with each other.
func (b books) check() []finding {
	var found []finding
	say := func(kind, format string, args ...any) {
		found = append(found, finding{kind, fmt.Sprintf(format, args...)})
	}
	told := map[string]bool{}
	for _, id := range b.accepted {
		if told[id] {
			say("lost", "order %s is what two customers were told of", id)
		} else if _, ok := b.orders[id]; !ok {
			say("lost", "order %s was accepted and is not in the database", id)
		}
		told[id] = true
	}
	if b.gaveUp > 0 {
		say("stuck", "%d customers gave up: their orders were never taken", b.gaveUp)
	}
	for id, o := range b.orders {
		if !told[id] {
			say("doubled", "order %s is in the database, and no customer was told of it", id)
		}
		if kind, what := b.money(id, o); kind != "" {
			say(kind, "order %s %s", id, what)
			continue // what was to be told of it is anybody's guess
		}
		for _, what := range b.untold(id, o) {
			say("lost", "%s", what)
		}
	}
	for _, movements := range []map[string][]string{b.captures, b.refunds, b.payments} {
		for id := range movements {
			if _, ok := b.orders[id]; !ok && !told[id] {
				say("wrong", "money moved for order %s, which nobody knows: %q", id, movements[id])
			}
		}
	}
	if n := len(b.accepted) - b.deadlines; n > 0 {
		say("lost", "%d payment deadlines of %d orders never reached orders", n, len(b.accepted))
	}
	for queue, n := range b.waiting {
		say("stuck", "%d messages wait in %s", n, queue)
	}
	found = append(found, b.checkDead()...)
	slices.SortFunc(found, func(a, b finding) int { return strings.Compare(a.Error(), b.Error()) })
	return found
}

// checkDead compares the dead letters with the poison.
func (b books) checkDead() (found []finding) {
	for id, p := range b.injected {
		if p.stored && len(b.dead[id]) == 0 {
			found = append(found, finding{"missing", fmt.Sprintf("poison %s, put into %s, is in no dead-letter queue", id, p.queue)})
		}
	}
	for id := range b.silent {
		if !slices.ContainsFunc(slices.Collect(maps.Values(b.dead)), func(letters []deadLetter) bool { return letters[0].order == id }) {
			found = append(found, finding{"missing", fmt.Sprintf("the charge of order %s, which the provider never answers, is in no dead-letter queue", id)})
		}
	}
	for id, letters := range b.dead {
		for _, l := range letters {
			if b.silent[l.order] && l.queue == contract.DeadQueue(contract.BillingCharge.Name) {
				continue
			}
			if p, ok := b.injected[id]; !ok || contract.DeadQueue(p.queue) != l.queue {
				found = append(found, finding{"dead", fmt.Sprintf("message %s of order %q died in %s: %s", id, l.order, l.queue, l.reason)})
			}
		}
	}
	return found
}

// ends says where the money must be for an order in its last state.
var ends = map[string]struct {
	payment            string // billing's state
	captured, refunded bool   // in billing's ledger, and by the provider
}{
	"paid":      {"captured", true, false},
	"declined":  {"declined", false, false},
	"cancelled": {"declined", false, false}, // had it been captured, late, it would be refunded
	"refunded":  {"refunded", true, true},
}

// terminal is section 9's: the last state, and no refund on its way.
func (o order) terminal() bool {
	_, known := ends[o.status]
	return known && !o.refundOpen
}

// charged says whether billing has come to an end with an order. With a charge that is
// parked it has come to none: people decide.
func (b books) charged(id string) bool {
	payments := b.payments[id]
	if b.silent[id] {
		return len(payments) > 0
	}
	return len(payments) > 0 && !strings.HasSuffix(payments[0], " pending")
}

// money says what is wrong with an order's: that it is not where everybody's books
// must have it, once, and all of it.
func (b books) money(id string, o order) (kind, what string) {
	switch {
	case len(b.captures[id]) > 1:
		return "doubled", fmt.Sprintf("was captured %d times", len(b.captures[id]))
	case len(b.refunds[id]) > 1:
		return "doubled", fmt.Sprintf("was refunded %d times", len(b.refunds[id]))
	case !o.terminal():
		return "stuck", fmt.Sprintf("is %s (refund open: %t)", o.status, o.refundOpen)
	case !b.charged(id):
		return "lost", fmt.Sprintf("is %s, and its charge never came to an end: %q", o.status, b.payments[id])
	case len(o.history) == 0 || o.history[len(o.history)-1] != o.status:
		return "wrong", fmt.Sprintf("is %s, by its history %q", o.status, o.history)
	}
	end := ends[o.status]
	if b.silent[id] {
		end.payment = "pending"
	}
	var moved, ledger, given []string
	if end.captured {
		moved, ledger = []string{o.payment}, []string{o.payment + " captured"}
	}
	if end.refunded {
		given, ledger = moved, append(ledger, o.payment+" refunded")
	}
	const form = "payments %q, ledger %q, captures %q, refunds %q"
	is := fmt.Sprintf(form, b.payments[id], b.ledger[id], b.captures[id], b.refunds[id])
	if must := fmt.Sprintf(form, []string{o.payment + " " + end.payment}, ledger, moved, given); is != must {
		return "wrong", fmt.Sprintf("is %s with %s; there must be %s", o.status, is, must)
	}
	return "", ""
}

// notes are the dedupe keys of what is owed for an order: mails to the customer, and
// calls of the webhook.
func (b books) notes(id string, o order) (mails, webhooks []string) {
	payment, _, _ := strings.Cut(o.payment, " ")
	for _, status := range o.history {
		note := "order-" + status + ":" + id
		if status != "placed" && status != "refunded" {
			mails = append(mails, note)
		}
		if o.express {
			webhooks = append(webhooks, note)
		}
	}
	if len(b.captures[id]) > 0 {
		mails = append(mails, "receipt:"+payment)
	}
	if len(b.refunds[id]) > 0 {
		mails = append(mails, "refund-receipt:"+payment)
	}
	return mails, webhooks
}

// untold is what nobody was told of an order: customer, webhook and audit stream.
func (b books) untold(id string, o order) (missing []string) {
	mails, webhooks := b.notes(id, o)
	for _, note := range mails {
		if b.mails[note] == 0 {
			missing = append(missing, "the mail "+note+" was never sent")
		}
	}
	for _, note := range webhooks {
		if b.webhooks[note] == 0 {
			missing = append(missing, "the webhook "+note+" was never called")
		}
	}
	var events []string
	for _, status := range o.history {
		events = append(events, "order."+status+".v1")
	}
	for _, payment := range b.ledger[id] {
		events = append(events, "payment."+payment[strings.LastIndex(payment, " ")+1:]+".v1")
	}
	if len(b.ledger[id]) == 0 && !b.silent[id] {
		events = append(events, contract.PaymentDeclined.Name)
	}
	for _, kind := range events {
		if b.events[event{id, kind}] == 0 {
			missing = append(missing, "the audit stream has not heard "+kind+" of order "+id)
		}
	}
	return missing
}

// moving is how much has not come to its end.
func (b books) moving() int {
	n := len(b.waiting) + max(len(b.accepted)-b.deadlines, 0)
	for id, o := range b.orders {
		if !o.terminal() || !b.charged(id) {
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

func sum[K comparable](counts map[K]int) int {
	n := 0
	for _, count := range counts {
		n += count
	}
	return n
}

// because is the reason without what it says of this one message.
func (l deadLetter) because() string {
	reason, _, _ := strings.Cut(strings.TrimPrefix(l.reason, "messaging: "), ":")
	return reason
}

// deadBy counts dead letters by queue and reason.
func (b books) deadBy() map[string]int {
	counts := map[string]int{}
	for _, letters := range b.dead {
		counts[letters[0].queue+": "+letters[0].because()]++
	}
	return counts
}

// tally is what became of some orders.
type tally struct {
	States        map[string]int `json:"states"`
	Captures      map[int]int    `json:"orders_by_captures"`      // how many orders have how many
	Notifications map[int]int    `json:"orders_by_notifications"` // mails and calls of the webhook
	Mails         int            `json:"mails"`
	MailsAgain    int            `json:"mails_again"` // of them, with the dedupe key of another
	Webhooks      int            `json:"webhooks"`
	WebhooksAgain int            `json:"webhooks_again"`
	Dead          map[string]int `json:"dead_letters"` // by reason
}

// some are the books of these orders only, for what befell those who came at a time,
// and of the poison that was injected at the time.
func (b books) some(ids []string, isThen func(poison) bool) tally {
	t := tally{States: map[string]int{}, Captures: map[int]int{}, Notifications: map[int]int{}, Dead: map[string]int{}}
	theirs := map[string]bool{}
	for _, id := range ids {
		o := b.orders[id]
		t.States[o.status]++
		t.Captures[len(b.captures[id])]++
		mails, webhooks := b.notes(id, o)
		before := t.Mails + t.Webhooks
		for _, note := range mails {
			t.Mails += b.mails[note]
			t.MailsAgain += max(b.mails[note]-1, 0)
		}
		for _, note := range webhooks {
			t.Webhooks += b.webhooks[note]
			t.WebhooksAgain += max(b.webhooks[note]-1, 0)
		}
		t.Notifications[t.Mails+t.Webhooks-before]++
		theirs[id] = true
	}
	for id, letters := range b.dead {
		if p, ok := b.injected[id]; ok && isThen(p) || theirs[letters[0].order] {
			t.Dead[letters[0].because()]++
		}
	}
	return t
}
