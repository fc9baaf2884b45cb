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
			orders:   map[string]order{"a": {status: "paid"}, "b": {status: "declined"}, "c": {status: "refunded"}, "d": {status: "cancelled"}},
			captures: map[string]int{"a": 1, "c": 1},
			refunds:  map[string]int{"c": 1},
			mails:    map[string]int{"a/paid": 2},
			injected: map[string]string{"p": "billing.charge"},
			dead:     map[string][]deadLetter{"p": {{"billing.charge.dead", "undecodable"}, {"billing.charge.dead", "undecodable"}}},
			waiting:  map[string]int{},
		}
	}
	require.Empty(t, clean().check())
	require.Equal(t, 1, clean().duplicates())
	for name, c := range map[string]struct {
		plant func(b *books)
		kind  string
	}{
		"a lost order":                 {func(b *books) { delete(b.orders, "b") }, "lost"},
		"a double capture":             {func(b *books) { b.captures["a"] = 2 }, "doubled"},
		"a double refund":              {func(b *books) { b.refunds["c"] = 2 }, "doubled"},
		"an order that does not move":  {func(b *books) { b.orders["a"] = order{status: "placed"} }, "stuck"},
		"a refund that does not come":  {func(b *books) { b.orders["a"] = order{status: "cancelled", refundOpen: true} }, "stuck"},
		"paid without a capture":       {func(b *books) { delete(b.captures, "a") }, "wrong"},
		"captured although declined":   {func(b *books) { b.captures["b"] = 1 }, "wrong"},
		"cancelled and the money kept": {func(b *books) { b.captures["d"] = 1 }, "wrong"},
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
		return sampled{time.Duration(second) * time.Second, accepted, ended}
	}
	samples := []sampled{at(0, 0, 0), at(1, 10, 5), at(2, 20, 5), at(6, 30, 6), at(8, 40, 20), at(9, 50, 20), at(20, 60, 50)}
	got := struck{At: 2 * time.Second, Took: 5 * time.Second}.measure(samples, 9*time.Second)
	require.Equal(t, struck{At: 2 * time.Second, Took: 5 * time.Second, Accepted: 40, Ended: 15, Pause: 4 * time.Second, Recovery: time.Second}, got)
	got = struck{At: 8500 * time.Millisecond}.measure(samples, 19*time.Second)
	require.Equal(t, 10500*time.Millisecond, got.Pause, "nothing came to its end until the next strike")
	require.Equal(t, got.Pause, got.Recovery)
}
