package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clean are books without a fault: a is paid and express, b declined, c refunded
// after it was paid, d cancelled and express, e cancelled and then charged late, f
// declined and then captured by a provider that corrected itself, g cancelled because
// the provider never answered.
func clean() books {
	return books{
		accepted: []string{"a", "b", "c", "d", "e", "f", "g"},
		orders: map[string]order{
			"a": {status: "paid", express: true, payment: "pa 5 EUR", history: []string{"placed", "paid"}},
			"b": {status: "declined", payment: "pb 5 EUR", history: []string{"placed", "declined"}},
			"c": {status: "refunded", payment: "pc 7 EUR", history: []string{"placed", "paid", "refunded"}},
			"d": {status: "cancelled", express: true, payment: "pd 5 EUR", history: []string{"placed", "cancelled"}},
			"e": {status: "refunded", payment: "pe 5 EUR", history: []string{"placed", "cancelled", "refunded"}},
			"f": {status: "refunded", payment: "pf 5 EUR", history: []string{"placed", "declined", "refunded"}},
			"g": {status: "cancelled", payment: "pg 5 EUR", history: []string{"placed", "cancelled"}},
		},
		deadlines: 7,
		payments: map[string][]string{
			"a": {"pa 5 EUR captured"}, "b": {"pb 5 EUR declined"}, "c": {"pc 7 EUR refunded"}, "d": {"pd 5 EUR declined"}, "e": {"pe 5 EUR refunded"},
			"f": {"pf 5 EUR refunded"}, "g": {"pg 5 EUR pending"},
		},
		ledger: map[string][]string{
			"a": {"pa 5 EUR captured"}, "c": {"pc 7 EUR captured", "pc 7 EUR refunded"}, "e": {"pe 5 EUR captured", "pe 5 EUR refunded"},
			"f": {"pf 5 EUR captured", "pf 5 EUR refunded"},
		},
		captures: map[string][]string{"a": {"pa 5 EUR"}, "c": {"pc 7 EUR"}, "e": {"pe 5 EUR"}, "f": {"pf 5 EUR"}},
		refunds:  map[string][]string{"c": {"pc 7 EUR"}, "e": {"pe 5 EUR"}, "f": {"pf 5 EUR"}},
		mails: map[string]int{
			"order-paid:a": 2, "receipt:pa": 1, "order-declined:b": 1, "order-paid:c": 1, "receipt:pc": 1, "refund-receipt:pc": 1,
			"order-cancelled:d": 1, "order-cancelled:e": 1, "receipt:pe": 1, "refund-receipt:pe": 1,
			"order-declined:f": 1, "receipt:pf": 1, "refund-receipt:pf": 1, "order-cancelled:g": 1,
		},
		webhooks: map[string]int{"order-placed:a": 1, "order-paid:a": 1, "order-placed:d": 1, "order-cancelled:d": 3},
		events: map[event]int{
			{"a", "order.placed.v1"}: 1, {"a", "order.paid.v1"}: 2, {"a", "payment.captured.v1"}: 1,
			{"b", "order.placed.v1"}: 1, {"b", "order.declined.v1"}: 1, {"b", "payment.declined.v1"}: 1,
			{"c", "order.placed.v1"}: 1, {"c", "order.paid.v1"}: 1, {"c", "order.refunded.v1"}: 1, {"c", "payment.captured.v1"}: 1, {"c", "payment.refunded.v1"}: 1,
			{"d", "order.placed.v1"}: 1, {"d", "order.cancelled.v1"}: 1, {"d", "payment.declined.v1"}: 1,
			{"e", "order.placed.v1"}: 1, {"e", "order.cancelled.v1"}: 1, {"e", "order.refunded.v1"}: 1, {"e", "payment.captured.v1"}: 1, {"e", "payment.refunded.v1"}: 1,
			{"f", "order.placed.v1"}: 1, {"f", "order.declined.v1"}: 1, {"f", "order.refunded.v1"}: 1, {"f", "payment.captured.v1"}: 1, {"f", "payment.refunded.v1"}: 1,
			{"g", "order.placed.v1"}: 1, {"g", "order.cancelled.v1"}: 1,
		},
		injected: map[string]poison{"p": {queue: "billing.charge", stored: true}, "q": {queue: "orders.expire"}},
		silent:   map[string]bool{"g": true},
		dead: map[string][]deadLetter{
			"p": {{"billing.charge.dead", "undecodable", ""}, {"billing.charge.dead", "undecodable", ""}}, "r": {{"billing.charge.dead", "no answer", "g"}},
		},
		waiting: map[string]int{},
	}
}

// The check can fail: each planted fault is reported, and nothing else.
func TestTheLedgerCheckReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	require.Empty(t, clean().check())
	require.Zero(t, clean().moving())
	for name, c := range map[string]struct {
		plant func(b *books)
		kind  string
	}{
		"a lost order":                    {func(b *books) { delete(b.orders, "b") }, "lost"},
		"a lost order of two customers":   {func(b *books) { b.accepted = append(b.accepted, "a"); b.deadlines++ }, "lost"},
		"a charge that was lost":          {func(b *books) { delete(b.payments, "d") }, "lost"},
		"a charge that did not end":       {func(b *books) { b.payments["d"] = []string{"pd 5 EUR pending"} }, "lost"},
		"a deadline that was lost":        {func(b *books) { b.deadlines-- }, "lost"},
		"a mail that was not sent":        {func(b *books) { delete(b.mails, "order-declined:b") }, "lost"},
		"a mail between two states":       {func(b *books) { delete(b.mails, "order-paid:c") }, "lost"},
		"a receipt that was not sent":     {func(b *books) { delete(b.mails, "refund-receipt:pc") }, "lost"},
		"a webhook that was not sent":     {func(b *books) { delete(b.webhooks, "order-placed:a") }, "lost"},
		"an urgent mail for the webhook":  {func(b *books) { delete(b.webhooks, "order-cancelled:d") }, "lost"},
		"an event that nobody heard":      {func(b *books) { delete(b.events, event{"c", "order.refunded.v1"}) }, "lost"},
		"a payment that nobody heard of":  {func(b *books) { delete(b.events, event{"c", "payment.captured.v1"}) }, "lost"},
		"a refusal that nobody heard of":  {func(b *books) { delete(b.events, event{"d", "payment.declined.v1"}) }, "lost"},
		"a double capture":                {func(b *books) { b.captures["a"] = []string{"pa 5 EUR", "px 5 EUR"} }, "doubled"},
		"a double refund":                 {func(b *books) { b.refunds["c"] = []string{"pc 7 EUR", "pc 7 EUR"} }, "doubled"},
		"a second order for one customer": {func(b *books) { b.accepted = b.accepted[1:] }, "doubled"},
		"an order that does not move":     {func(b *books) { b.orders["a"] = order{status: "placed"} }, "stuck"},
		"a refund that does not come":     {func(b *books) { b.orders["a"] = order{status: "cancelled", refundOpen: true} }, "stuck"},
		"a customer who gave up":          {func(b *books) { b.gaveUp = 1 }, "stuck"},
		"a message that nobody takes":     {func(b *books) { b.waiting["billing.charge"] = 1 }, "stuck"},
		"paid without a capture":          {func(b *books) { delete(b.captures, "a") }, "wrong"},
		"captured although declined":      {func(b *books) { b.captures["b"] = []string{"pb 5 EUR"} }, "wrong"},
		"cancelled and the money kept":    {func(b *books) { b.captures["d"] = []string{"pd 5 EUR"} }, "wrong"},
		"captured more than ordered":      {func(b *books) { b.captures["a"] = []string{"pa 6 EUR"} }, "wrong"},
		"captured in another currency":    {func(b *books) { b.captures["a"] = []string{"pa 5 USD"} }, "wrong"},
		"refunded less than captured":     {func(b *books) { b.refunds["c"] = []string{"pc 6 EUR"} }, "wrong"},
		"not in billing's ledger":         {func(b *books) { delete(b.ledger, "a") }, "wrong"},
		"billing holds it for declined":   {func(b *books) { b.payments["a"] = []string{"pa 5 EUR declined"} }, "wrong"},
		"captured for nobody":             {func(b *books) { b.captures["x"] = []string{"px 5 EUR"} }, "wrong"},
		"a state without a history": {func(b *books) {
			b.orders["a"] = order{status: "paid", payment: "pa 5 EUR", history: []string{"placed"}}
		}, "wrong"},
		"a message that died":               {func(b *books) { b.dead["x"] = []deadLetter{{"orders.expire.dead", "why", "a"}} }, "dead"},
		"poison that died elsewhere":        {func(b *books) { b.dead["p"] = []deadLetter{{"orders.expire.dead", "why", ""}} }, "dead"},
		"poison that is gone":               {func(b *books) { delete(b.dead, "p") }, "missing"},
		"a silent charge that is gone":      {func(b *books) { delete(b.dead, "r") }, "missing"},
		"a silent charge that died again":   {func(b *books) { b.dead["r"][0].queue = "billing.refund.dead" }, "dead"},
		"a silent charge that was captured": {func(b *books) { b.captures["g"] = []string{"pg 5 EUR"} }, "wrong"},
		"a silent charge that was lost":     {func(b *books) { delete(b.payments, "g") }, "lost"},
		"declined and the money kept":       {func(b *books) { o := b.orders["f"]; o.status, o.history = "declined", o.history[:2]; b.orders["f"] = o }, "wrong"},
		"a parked charge of another order": {func(b *books) {
			b.silent = nil
			b.payments["g"] = []string{"pg 5 EUR declined"}
			b.events[event{"g", "payment.declined.v1"}] = 1
		}, "dead"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := clean()
			c.plant(&b)
			found := b.check()
			require.Len(t, found, 1, "%v", found)
			require.Equal(t, c.kind, found[0].Kind)
		})
	}
}

// What settle waits for.
func TestMoving(t *testing.T) {
	t.Parallel()
	b := clean()
	b.orders["a"] = order{status: "placed"}
	b.payments["d"] = []string{"pd 5 EUR pending"}
	b.deadlines -= 2
	b.waiting["the outbox of orders"] = 7
	require.Equal(t, 5, b.moving())
}

func TestTheSums(t *testing.T) {
	t.Parallel()
	b := clean()
	require.Equal(t, 1, again(b.mails))
	require.Equal(t, 1, again(b.events))
	require.Equal(t, 27, sum(b.events))
	require.Equal(t, map[string]int{"billing.charge.dead: undecodable": 1, "billing.charge.dead: no answer": 1}, b.deadBy())
	b.dead["x"] = []deadLetter{{"orders.expire.dead", "messaging: no such type: x", "d"}}
	now, then := func(poison) bool { return true }, func(poison) bool { return false }
	want := tally{
		States: map[string]int{"paid": 1, "cancelled": 1}, Captures: map[int]int{0: 1, 1: 1}, Notifications: map[int]int{5: 2},
		Mails: 4, MailsAgain: 1, Webhooks: 6, WebhooksAgain: 2, Dead: map[string]int{"no such type": 1},
	}
	require.Equal(t, want, b.some([]string{"a", "d"}, then))
	require.Equal(t, map[string]int{"undecodable": 1}, b.some(nil, now).Dead)
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	at := func(second, accepted, ended int) sampled {
		return sampled{time.Duration(second) * time.Second, accepted, ended, accepted - ended}
	}
	samples := []sampled{at(0, 0, 0), at(1, 10, 5), at(2, 20, 5), at(6, 30, 6), at(8, 40, 20), at(9, 50, 20), at(20, 60, 50)}
	hit := struck{Fault: brokerKilled.name, Alone: true, At: 2 * time.Second, Took: 5 * time.Second, Mended: 7 * time.Second}
	got := hit.measure(samples, 9*time.Second)
	want := hit
	want.first, want.Accepted, want.Ended, want.Moving, want.Pause, want.Recovery = 10, 40, 15, 30, 4*time.Second, time.Second
	require.Equal(t, want, got)
	require.False(t, got.slow())
	got = struck{At: 8500 * time.Millisecond, Mended: 8500 * time.Millisecond}.measure(samples, 19*time.Second)
	require.Equal(t, 10500*time.Millisecond, got.Pause, "nothing came to its end until the next strike")
	require.Equal(t, got.Pause, got.Recovery)
	require.False(t, got.slow(), "it took no broker away")
	got.Fault, got.Alone = brokerKilled.name, true
	require.True(t, got.slow())
	got.Trouble = "it did not take"
	require.False(t, got.slow())
}

func TestTheLastLine(t *testing.T) {
	t.Parallel()
	r := report{Seed: 7, Faults: 26, Accepted: 20000, Dead: map[string]int{"a.dead: b": 11}, Strikes: []struck{
		{Fault: "a", Alone: true, Trouble: "it did not take"}, {Fault: "a", Alone: true}, {Fault: "b", Alone: true, Trouble: "no"}, {Fault: "a + b"},
	}}
	require.True(t, r.passed())
	require.Equal(t, "PASSED: seed 7, 1 of 26 faults alone and 1 pairs, 20000 orders accepted: 0 lost, 0 doubled, 0 stuck; 11 dead letters, all of them the poison that was injected", r.closing())
	r.Findings = []finding{{"doubled", "order x was captured 2 times"}, {"lost", "order y is gone"}, {"lost", "order z is gone"}, {"slow", "s"}, {"drill", "d"}}
	require.False(t, r.passed())
	require.Equal(t, "FAILED: seed 7, 1 of 26 faults alone and 1 pairs, 20000 orders accepted: 2 lost (order y is gone), 1 doubled (order x was captured 2 times), 0 stuck, 0 wrong, "+
		"0 dead that should live, 0 poison missing, 1 slow to recover (s), 1 troubles of the drill (d)", r.closing())
}
