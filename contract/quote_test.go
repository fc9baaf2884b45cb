package contract_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
)

func eur(minor int64) contract.Money {
	return contract.Money{AmountMinor: minor, Currency: contract.Currency}
}

func TestQuoteReplyCheck(t *testing.T) {
	t.Parallel()
	items := []contract.OrderItem{{SKU: "mug", Quantity: 2}, {SKU: "tea", Quantity: 1}}
	for _, c := range []struct {
		name   string
		mutate func(q *contract.PricingQuoteReplyBody)
		want   string // the empty string: it is a quote
	}{
		{"as it is", func(*contract.PricingQuoteReplyBody) {}, ""},
		{"no lines", func(q *contract.PricingQuoteReplyBody) { q.Lines = nil }, "lines"},
		{"a line too many", func(q *contract.PricingQuoteReplyBody) { q.Lines = append(q.Lines, q.Lines[0]) }, "lines"},
		{"another order of lines", func(q *contract.PricingQuoteReplyBody) { q.Lines[0], q.Lines[1] = q.Lines[1], q.Lines[0] }, "lines[0].sku"},
		{"another quantity", func(q *contract.PricingQuoteReplyBody) { q.Lines[0].Quantity = 3 }, "lines[0].sku, quantity"},
		{"a unit of nothing", func(q *contract.PricingQuoteReplyBody) { q.Lines[1].Unit, q.Lines[1].Total = eur(0), eur(0) }, "lines[1].unit.amount_minor"},
		{"a unit in another currency", func(q *contract.PricingQuoteReplyBody) { q.Lines[1].Unit.Currency = "USD" }, "lines[1].unit.currency"},
		{"a line in another currency", func(q *contract.PricingQuoteReplyBody) { q.Lines[1].Total.Currency = "USD" }, "lines[1].total.currency"},
		{"a line that is not its product", func(q *contract.PricingQuoteReplyBody) { q.Lines[0].Total, q.Total = eur(2581), eur(3331) }, "lines[0].total"},
		{"a product that overflows to its total", func(q *contract.PricingQuoteReplyBody) {
			q.Lines[0].Unit, q.Lines[0].Total = eur(math.MaxInt64/2+2), eur(2) // 2 * (2^62 + 1) is 2 in 64 bits
		}, "lines[0].total"},
		{"a sum that overflows", func(q *contract.PricingQuoteReplyBody) {
			q.Lines[0].Unit, q.Lines[0].Total, q.Lines[1].Unit, q.Lines[1].Total = eur(math.MaxInt64/2), eur(math.MaxInt64-1), eur(2), eur(2)
		}, "the sum is too large"},
		{"a total of nothing", func(q *contract.PricingQuoteReplyBody) { q.Total = eur(0) }, "total.amount_minor"},
		{"a total below zero", func(q *contract.PricingQuoteReplyBody) { q.Total = eur(-3330) }, "total.amount_minor"},
		{"a total in another currency", func(q *contract.PricingQuoteReplyBody) { q.Total.Currency = "USD" }, "total.currency"},
		{"another total", func(q *contract.PricingQuoteReplyBody) { q.Total = eur(3329) }, "total: is not the sum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q := contract.PricingQuoteReplyBody{Total: eur(3330), CatalogueVersion: 7, Lines: []contract.QuoteLine{
				{SKU: "mug", Quantity: 2, Unit: eur(1290), Total: eur(2580)}, {SKU: "tea", Quantity: 1, Unit: eur(750), Total: eur(750)},
			}}
			c.mutate(&q)
			if err := q.Check(items); c.want != "" {
				require.ErrorContains(t, err, c.want)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// The fixture of the reply is a quote for the fixture of the request.
func TestTheFixtureIsAQuote(t *testing.T) {
	t.Parallel()
	var request contract.PricingQuoteBody
	var reply contract.PricingQuoteReplyBody
	for name, body := range map[string]any{contract.PricingQuote.Name: &request, contract.PricingQuoteReply.Name: &reply} {
		encoded, err := contract.Fixture(name)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(encoded, body))
	}
	require.NoError(t, reply.Check(request.Items))
}
