package main

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The check can fail: each planted fault is reported, and nothing else.
func TestTheLedgerCheckReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	clean := func() books {
		return books{
			accepted: []string{"a", "b", "c", "d"},
			orders:   map[string]order{"a": {status: "paid", express: true}, "b": {status: "declined"}, "c": {status: "refunded"}, "d": {status: "cancelled"}},
			payments: map[string]string{"a": "pa", "c": "pc"},
			captures: map[string]int{"a": 1, "c": 1},
			refunds:  map[string]int{"c": 1},
			mails:    map[string]int{"order-paid:a": 2, "receipt:pa": 1, "order-declined:b": 1, "order-cancelled:c": 1, "receipt:pc": 1, "refund-receipt:pc": 1, "order-cancelled:d": 1},
			webhooks: map[string]int{"order-placed:a": 1},
			events: map[event]int{
				{"a", "order.placed.v1"}: 1, {"a", "order.paid.v1"}: 2, {"b", "order.placed.v1"}: 1, {"b", "order.declined.v1"}: 1,
				{"c", "order.placed.v1"}: 1, {"c", "order.refunded.v1"}: 1, {"d", "order.placed.v1"}: 1, {"d", "order.cancelled.v1"}: 1,
			},
			injected: map[string]string{"p": "billing.charge"},
			dead:     map[string][]deadLetter{"p": {{"billing.charge.dead", "undecodable"}, {"billing.charge.dead", "undecodable"}}},
			waiting:  map[string]int{},
		}
	}
	require.Empty(t, clean().check())
	require.Equal(t, 1, again(clean().mails))
	require.Equal(t, 1, again(clean().events))
	require.Equal(t, map[string]int{"billing.charge.dead: undecodable": 1}, clean().deadBy())
	require.Equal(t, tally{States: map[string]int{"paid": 1, "cancelled": 1}, Captures: map[int]int{0: 1, 1: 1}, Mails: 4, MailsAgain: 1}, clean().some([]string{"a", "d"}))
	for name, c := range map[string]struct {
		plant func(b *books)
		kind  string
	}{
		"a lost order":                 {func(b *books) { delete(b.orders, "b") }, "lost"},
		"a double capture":             {func(b *books) { b.captures["a"] = 2 }, "doubled"},
		"a mail that was not sent":     {func(b *books) { delete(b.mails, "order-declined:b") }, "lost"},
		"a receipt that was not sent":  {func(b *books) { delete(b.mails, "refund-receipt:pc") }, "lost"},
		"a webhook that was not sent":  {func(b *books) { delete(b.webhooks, "order-placed:a") }, "lost"},
		"an event that nobody heard":   {func(b *books) { delete(b.events, event{"c", "order.refunded.v1"}) }, "lost"},
		"a double refund":              {func(b *books) { b.refunds["c"] = 2 }, "doubled"},
		"an order that does not move":  {func(b *books) { b.orders["a"] = order{status: "placed"} }, "stuck"},
		"a refund that does not come":  {func(b *books) { b.orders["a"] = order{status: "cancelled", refundOpen: true} }, "stuck"},
		"paid without a capture":       {func(b *books) { delete(b.captures, "a") }, "wrong"},
		"captured although declined":   {func(b *books) { b.captures["b"], b.mails["receipt:"] = 1, 1 }, "wrong"},
		"cancelled and the money kept": {func(b *books) { b.captures["d"], b.mails["receipt:"] = 1, 1 }, "wrong"},
		"a message that died":          {func(b *books) { b.dead["x"] = []deadLetter{{"orders.expire.dead", "why"}} }, "dead"},
		"poison that is gone":          {func(b *books) { maps.DeleteFunc(b.dead, func(string, []deadLetter) bool { return true }) }, "missing"},
		"a message that nobody takes":  {func(b *books) { b.waiting["billing.charge"] = 1 }, "stuck"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := clean()
			c.plant(&b)
			found := b.check()
			require.Len(t, found, 1)
			require.Equal(t, c.kind, found[0].Kind)
		})
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	at := func(second, accepted, ended int) sampled {
		return sampled{time.Duration(second) * time.Second, accepted, ended, accepted - ended}
	}
	samples := []sampled{at(0, 0, 0), at(1, 10, 5), at(2, 20, 5), at(6, 30, 6), at(8, 40, 20), at(9, 50, 20), at(20, 60, 50)}
	got := struck{At: 2 * time.Second, Took: 5 * time.Second}.measure(samples, 9*time.Second)
	require.Equal(t, struck{At: 2 * time.Second, Took: 5 * time.Second, first: 10, Accepted: 40, Ended: 15, Moving: 30, Pause: 4 * time.Second, Recovery: time.Second}, got)
	got = struck{At: 8500 * time.Millisecond}.measure(samples, 19*time.Second)
	require.Equal(t, 10500*time.Millisecond, got.Pause, "nothing came to its end until the next strike")
	require.Equal(t, got.Pause, got.Recovery)
}
