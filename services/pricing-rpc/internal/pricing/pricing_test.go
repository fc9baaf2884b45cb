package pricing_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

func euros(minor int64) contract.Money {
	return contract.Money{AmountMinor: minor, Currency: contract.Currency}
}

var catalogue = pricing.Catalogue{Version: 7, Prices: []pricing.Price{
	{SKU: "mug", Name: "Mug", Price: euros(1290), Version: 1},
	{SKU: "tshirt", Name: "T-shirt", Price: euros(2450), Version: 7},
	{SKU: "moon", Name: "Moon", Price: euros(math.MaxInt64), Version: 1},
	{SKU: "thousandth", Name: "A thousandth of the moon", Price: euros(math.MaxInt64 / 1000), Version: 1},
}}

func TestQuote(t *testing.T) {
	t.Parallel()
	quote, err := catalogue.Quote([]contract.OrderItem{{SKU: "tshirt", Quantity: 1}, {SKU: "mug", Quantity: 3}})
	require.NoError(t, err)
	require.Equal(t, contract.PricingQuoteReplyBody{
		Lines: []contract.QuoteLine{
			{SKU: "tshirt", Quantity: 1, Unit: euros(2450), Total: euros(2450)},
			{SKU: "mug", Quantity: 3, Unit: euros(1290), Total: euros(3870)},
		},
		Total:            euros(6320),
		CatalogueVersion: 7,
	}, quote)
}

func TestQuoteBounds(t *testing.T) {
	t.Parallel()
	many := make([]contract.OrderItem, contract.MaxItems+1)
	for i := range many {
		many[i] = contract.OrderItem{SKU: "mug", Quantity: 1}
	}
	const largest = math.MaxInt64 / 1000 * 1000
	for _, c := range []struct {
		name  string
		items []contract.OrderItem
		total int64 // when it can be quoted
		want  error
	}{
		{"the most items", many[1:], 50 * 1290, nil},
		{"too many items", many, 0, pricing.Invalid{"items": "must be 1 to 50"}},
		{"no items", nil, 0, pricing.Invalid{"items": "must be 1 to 50"}},
		{"no quantity", []contract.OrderItem{{SKU: "mug"}}, 0, pricing.Invalid{"items[0].quantity": "must be 1 to 1000"}},
		{"a negative quantity", []contract.OrderItem{{SKU: "mug", Quantity: -1}}, 0, pricing.Invalid{"items[0].quantity": "must be 1 to 1000"}},
		{"a large quantity", []contract.OrderItem{{SKU: "mug", Quantity: 1001}}, 0, pricing.Invalid{"items[0].quantity": "must be 1 to 1000"}},
		{"unknown", []contract.OrderItem{{SKU: "mug", Quantity: 1}, {SKU: "unicorn", Quantity: 1}}, 0, pricing.UnknownSKUs{"items[1].sku": "unknown"}},
		{"invalid and unknown", []contract.OrderItem{{SKU: "unicorn"}, {SKU: "mug"}}, 0,
			pricing.Invalid{"items[0].sku": "unknown", "items[0].quantity": "must be 1 to 1000", "items[1].quantity": "must be 1 to 1000"}},
		{"the largest total", []contract.OrderItem{{SKU: "moon", Quantity: 1}}, math.MaxInt64, nil},
		{"the largest product", []contract.OrderItem{{SKU: "thousandth", Quantity: 1000}}, largest, nil},
		{"a product that is too large", []contract.OrderItem{{SKU: "moon", Quantity: 2}}, 0, pricing.Invalid{"items[0]": "the total is too large"}},
		{"a sum that is too large", []contract.OrderItem{{SKU: "moon", Quantity: 1}, {SKU: "mug", Quantity: 1}}, 0, pricing.Invalid{"items[1]": "the total is too large"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			quote, err := catalogue.Quote(c.items)
			if c.want != nil {
				require.Equal(t, c.want, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, euros(c.total), quote.Total)
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		mutate func(p *pricing.Price)
		field  string // the empty string: the price is valid
	}{
		{"as it is", func(*pricing.Price) {}, ""},
		{"the highest price", func(p *pricing.Price) { p.Price.AmountMinor = pricing.MaxAmount }, ""},
		{"no SKU", func(p *pricing.Price) { p.SKU = "" }, "sku"},
		{"capitals in the SKU", func(p *pricing.Price) { p.SKU = "Mug" }, "sku"},
		{"a long SKU", func(p *pricing.Price) { p.SKU = strings.Repeat("m", 65) }, "sku"},
		{"no name", func(p *pricing.Price) { p.Name = "" }, "name"},
		{"a long name", func(p *pricing.Price) { p.Name = strings.Repeat("m", 101) }, "name"},
		{"a name with a control character", func(p *pricing.Price) { p.Name = "Mug\x00" }, "name"},
		{"no price", func(p *pricing.Price) { p.Price.AmountMinor = 0 }, "price.amount_minor"},
		{"a price that is too high", func(p *pricing.Price) { p.Price.AmountMinor = pricing.MaxAmount + 1 }, "price.amount_minor"},
		{"another currency", func(p *pricing.Price) { p.Price.Currency = "USD" }, "price.currency"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pricing.Price{SKU: "mug", Name: "Mug", Price: euros(1290)}
			c.mutate(&p)
			err := p.Validate()
			if c.field == "" {
				require.NoError(t, err)
				return
			}
			var invalid pricing.Invalid
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid, 1)
			require.Contains(t, invalid, c.field)
		})
	}
}

// Only valid SKUs are queried, and never more than an order may have.
func TestSKUs(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"mug", "tea"}, pricing.SKUs([]contract.OrderItem{
		{SKU: "mug"}, {SKU: "MUG"}, {SKU: "tea"}, {SKU: "mug"}, {SKU: ""}, {SKU: "a\x00b"}, {SKU: "\xff"},
	}))
	require.Len(t, pricing.SKUs(distinct(contract.MaxItems)), contract.MaxItems)
	require.Empty(t, pricing.SKUs(distinct(contract.MaxItems+1)))
}

func distinct(n int) (items []contract.OrderItem) {
	for i := range n {
		items = append(items, contract.OrderItem{SKU: fmt.Sprint("sku-", i)})
	}
	return items
}
