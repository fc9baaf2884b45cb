package ledger

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// clean returns records without an error: order a is paid and express, b declined, c refunded
// after it was paid, d cancelled and express, e cancelled and captured too late, f declined and
// then captured by a provider that corrected itself, g cancelled because the provider never
// answered.
func clean() Books {
	return Books{
		Known: Known{
			Accepted:   []string{"a", "b", "c", "d", "e", "f", "g"},
			Poison:     map[string]PoisonMessage{"p": {Queue: "billing.charge", Stored: true}, "q": {Queue: "orders.expire"}},
			Unanswered: map[string]bool{"g": true},
		},
		Orders: map[string]Order{
			"a": {Status: "paid", Express: true, Payment: "pa 5 EUR", History: []string{"placed", "paid"}},
			"b": {Status: "declined", Payment: "pb 5 EUR", History: []string{"placed", "declined"}},
			"c": {Status: "refunded", Payment: "pc 7 EUR", History: []string{"placed", "paid", "refunded"}},
			"d": {Status: "cancelled", Express: true, Payment: "pd 5 EUR", History: []string{"placed", "cancelled"}},
			"e": {Status: "refunded", Payment: "pe 5 EUR", History: []string{"placed", "cancelled", "refunded"}},
			"f": {Status: "refunded", Payment: "pf 5 EUR", History: []string{"placed", "declined", "refunded"}},
			"g": {Status: "cancelled", Payment: "pg 5 EUR", History: []string{"placed", "cancelled"}},
		},
		Deadlines: 7,
		Payments: map[string][]string{
			"a": {"pa 5 EUR captured"}, "b": {"pb 5 EUR declined"}, "c": {"pc 7 EUR refunded"}, "d": {"pd 5 EUR declined"}, "e": {"pe 5 EUR refunded"},
			"f": {"pf 5 EUR refunded"}, "g": {"pg 5 EUR pending"},
		},
		Ledger: map[string][]string{
			"a": {"pa 5 EUR captured"}, "c": {"pc 7 EUR captured", "pc 7 EUR refunded"}, "e": {"pe 5 EUR captured", "pe 5 EUR refunded"},
			"f": {"pf 5 EUR captured", "pf 5 EUR refunded"},
		},
		Captures: map[string][]string{"a": {"pa 5 EUR"}, "c": {"pc 7 EUR"}, "e": {"pe 5 EUR"}, "f": {"pf 5 EUR"}},
		Refunds:  map[string][]string{"c": {"pc 7 EUR"}, "e": {"pe 5 EUR"}, "f": {"pf 5 EUR"}},
		Mails: map[string]int{
			"order-paid:a": 2, "receipt:pa": 1, "order-declined:b": 1, "order-paid:c": 1, "receipt:pc": 1, "refund-receipt:pc": 1,
			"order-cancelled:d": 1, "order-cancelled:e": 1, "receipt:pe": 1, "refund-receipt:pe": 1,
			"order-declined:f": 1, "receipt:pf": 1, "refund-receipt:pf": 1, "order-cancelled:g": 1,
		},
		Webhooks: map[string]int{"order-placed:a": 1, "order-paid:a": 1, "order-placed:d": 1, "order-cancelled:d": 3},
		Events: map[Event]int{
			{"a", "order.placed.v1"}: 1, {"a", "order.paid.v1"}: 2, {"a", "payment.captured.v1"}: 1,
			{"b", "order.placed.v1"}: 1, {"b", "order.declined.v1"}: 1, {"b", "payment.declined.v1"}: 1,
			{"c", "order.placed.v1"}: 1, {"c", "order.paid.v1"}: 1, {"c", "order.refunded.v1"}: 1, {"c", "payment.captured.v1"}: 1, {"c", "payment.refunded.v1"}: 1,
			{"d", "order.placed.v1"}: 1, {"d", "order.cancelled.v1"}: 1, {"d", "payment.declined.v1"}: 1,
			{"e", "order.placed.v1"}: 1, {"e", "order.cancelled.v1"}: 1, {"e", "order.refunded.v1"}: 1, {"e", "payment.captured.v1"}: 1, {"e", "payment.refunded.v1"}: 1,
			{"f", "order.placed.v1"}: 1, {"f", "order.declined.v1"}: 1, {"f", "order.refunded.v1"}: 1, {"f", "payment.captured.v1"}: 1, {"f", "payment.refunded.v1"}: 1,
			{"g", "order.placed.v1"}: 1, {"g", "order.cancelled.v1"}: 1,
		},
		Dead: map[string][]DeadLetter{
			"p": {{"billing.charge.dead", "undecodable", ""}, {"billing.charge.dead", "undecodable", ""}}, "r": {{"billing.charge.dead", "no answer", "g"}},
		},
		Waiting: map[string]int{},
	}
}

// Each error that is made in the records is reported, and nothing else.
func TestTheLedgerCheckReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	require.Empty(t, clean().Check())
	require.Zero(t, clean().Moving())
	for name, c := range map[string]struct {
		plant func(b *Books)
		kind  string
	}{
		"a lost order":                    {func(b *Books) { delete(b.Orders, "b") }, "lost"},
		"a lost order of two customers":   {func(b *Books) { b.Accepted = append(b.Accepted, "a"); b.Deadlines++ }, "lost"},
		"a charge that was lost":          {func(b *Books) { delete(b.Payments, "d") }, "lost"},
		"a charge that did not end":       {func(b *Books) { b.Payments["d"] = []string{"pd 5 EUR pending"} }, "lost"},
		"a deadline that was lost":        {func(b *Books) { b.Deadlines-- }, "lost"},
		"a mail that was not sent":        {func(b *Books) { delete(b.Mails, "order-declined:b") }, "lost"},
		"a mail between two states":       {func(b *Books) { delete(b.Mails, "order-paid:c") }, "lost"},
		"a receipt that was not sent":     {func(b *Books) { delete(b.Mails, "refund-receipt:pc") }, "lost"},
		"a webhook that was not sent":     {func(b *Books) { delete(b.Webhooks, "order-placed:a") }, "lost"},
		"an urgent mail for the webhook":  {func(b *Books) { delete(b.Webhooks, "order-cancelled:d") }, "lost"},
		"an event that nobody heard":      {func(b *Books) { delete(b.Events, Event{"c", "order.refunded.v1"}) }, "lost"},
		"a payment that nobody heard of":  {func(b *Books) { delete(b.Events, Event{"c", "payment.captured.v1"}) }, "lost"},
		"a refusal that nobody heard of":  {func(b *Books) { delete(b.Events, Event{"d", "payment.declined.v1"}) }, "lost"},
		"a double capture":                {func(b *Books) { b.Captures["a"] = []string{"pa 5 EUR", "px 5 EUR"} }, "doubled"},
		"a double refund":                 {func(b *Books) { b.Refunds["c"] = []string{"pc 7 EUR", "pc 7 EUR"} }, "doubled"},
		"a second order for one customer": {func(b *Books) { b.Accepted = b.Accepted[1:] }, "doubled"},
		"an order that does not move":     {func(b *Books) { b.Orders["a"] = Order{Status: "placed"} }, "stuck"},
		"a refund that does not come":     {func(b *Books) { b.Orders["a"] = Order{Status: "cancelled", RefundOpen: true} }, "stuck"},
		"a customer who gave up":          {func(b *Books) { b.GaveUp = 1 }, "stuck"},
		"a message that nobody takes":     {func(b *Books) { b.Waiting["billing.charge"] = 1 }, "stuck"},
		"paid without a capture":          {func(b *Books) { delete(b.Captures, "a") }, "wrong"},
		"captured although declined":      {func(b *Books) { b.Captures["b"] = []string{"pb 5 EUR"} }, "wrong"},
		"cancelled and the money kept":    {func(b *Books) { b.Captures["d"] = []string{"pd 5 EUR"} }, "wrong"},
		"captured more than ordered":      {func(b *Books) { b.Captures["a"] = []string{"pa 6 EUR"} }, "wrong"},
		"captured in another currency":    {func(b *Books) { b.Captures["a"] = []string{"pa 5 USD"} }, "wrong"},
		"refunded less than captured":     {func(b *Books) { b.Refunds["c"] = []string{"pc 6 EUR"} }, "wrong"},
		"not in billing's ledger":         {func(b *Books) { delete(b.Ledger, "a") }, "wrong"},
		"billing holds it for declined":   {func(b *Books) { b.Payments["a"] = []string{"pa 5 EUR declined"} }, "wrong"},
		"captured for nobody":             {func(b *Books) { b.Captures["x"] = []string{"px 5 EUR"} }, "wrong"},
		"a state without a history": {func(b *Books) {
			b.Orders["a"] = Order{Status: "paid", Payment: "pa 5 EUR", History: []string{"placed"}}
		}, "wrong"},
		"a dead letter":                                {func(b *Books) { b.Dead["x"] = []DeadLetter{{"orders.expire.dead", "why", "a"}} }, "dead"},
		"poison that died elsewhere":                   {func(b *Books) { b.Dead["p"] = []DeadLetter{{"orders.expire.dead", "why", ""}} }, "dead"},
		"poison that is gone":                          {func(b *Books) { delete(b.Dead, "p") }, "missing"},
		"a charge without an answer that is gone":      {func(b *Books) { delete(b.Dead, "r") }, "missing"},
		"a charge without an answer that died again":   {func(b *Books) { b.Dead["r"][0].Queue = "billing.refund.dead" }, "dead"},
		"a charge without an answer that was captured": {func(b *Books) { b.Captures["g"] = []string{"pg 5 EUR"} }, "wrong"},
		"a charge without an answer that was lost":     {func(b *Books) { delete(b.Payments, "g") }, "lost"},
		"declined and the money kept":                  {func(b *Books) { o := b.Orders["f"]; o.Status, o.History = "declined", o.History[:2]; b.Orders["f"] = o }, "wrong"},
		"a parked charge of another order": {func(b *Books) {
			b.Unanswered = nil
			b.Payments["g"] = []string{"pg 5 EUR declined"}
			b.Events[Event{"g", "payment.declined.v1"}] = 1
		}, "dead"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := clean()
			c.plant(&b)
			found := b.Check()
			require.Len(t, found, 1, "%v", found)
			require.Equal(t, c.kind, found[0].Kind)
		})
	}
}

func TestMoving(t *testing.T) {
	t.Parallel()
	b := clean()
	b.Orders["a"] = Order{Status: "placed"}
	b.Payments["d"] = []string{"pd 5 EUR pending"}
	b.Deadlines -= 2
	b.Waiting["the outbox of orders"] = 7
	require.Equal(t, 5, b.Moving())
}

func TestTheSums(t *testing.T) {
	t.Parallel()
	b := clean()
	require.Equal(t, 1, Repeated(b.Mails))
	require.Equal(t, 1, Repeated(b.Events))
	require.Equal(t, 27, Sum(b.Events))
	require.Equal(t, map[string]int{"billing.charge.dead: undecodable": 1, "billing.charge.dead: no answer": 1}, b.DeadLetters())
	b.Dead["x"] = []DeadLetter{{"orders.expire.dead", "messaging: no such type: x", "d"}}
	now, then := func(PoisonMessage) bool { return true }, func(PoisonMessage) bool { return false }
	want := Tally{
		States: map[string]int{"paid": 1, "cancelled": 1}, Captures: map[int]int{0: 1, 1: 1}, Notifications: map[int]int{5: 2},
		Mails: 4, MailsAgain: 1, Webhooks: 6, WebhooksAgain: 2, Dead: map[string]int{"no such type": 1},
	}
	require.Equal(t, want, b.Tally([]string{"a", "d"}, then))
	require.Equal(t, map[string]int{"undecodable": 1}, b.Tally(nil, now).Dead)
}
