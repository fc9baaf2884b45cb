package order_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/services/orders/internal/order"
)

const token = "tok_secret_4711"

var total = contract.Money{AmountMinor: 4397, Currency: "EUR"}

func request() order.Request {
	return order.Request{
		CustomerID: "c-1042", Region: contract.RegionEU, Tier: contract.TierExpress, PaymentToken: token,
		Items: []order.Item{{SKU: "mug", Quantity: 2}, {SKU: "tshirt", Quantity: 1}},
	}
}

func items(n int) []order.Item {
	list := make([]order.Item, n)
	for i := range list {
		list[i] = order.Item{SKU: fmt.Sprintf("sku-%d", i), Quantity: contract.MaxQuantity}
	}
	return list
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		mutate func(r *order.Request)
		field  string // the empty string: the request is valid
	}{
		{"as it is", func(*order.Request) {}, ""},
		{"the most items of the largest quantity", func(r *order.Request) { r.Items = items(contract.MaxItems) }, ""},
		{"the longest token", func(r *order.Request) { r.PaymentToken = strings.Repeat("t", 128) }, ""},
		{"no customer", func(r *order.Request) { r.CustomerID = "" }, "customer_id"},
		{"a customer that is a mail address", func(r *order.Request) { r.CustomerID = "a@b" }, "customer_id"},
		{"a customer with a line break", func(r *order.Request) { r.CustomerID = "c-1\n" }, "customer_id"},
		{"a customer with two dots in a row", func(r *order.Request) { r.CustomerID = "a..b" }, "customer_id"},
		{"a customer with a dot at the end", func(r *order.Request) { r.CustomerID = "a." }, "customer_id"},
		{"a customer with dots", func(r *order.Request) { r.CustomerID = "a.b.c" }, ""},
		{"a long customer", func(r *order.Request) { r.CustomerID = strings.Repeat("c", 65) }, "customer_id"},
		{"another region", func(r *order.Request) { r.Region = "mars" }, "region"},
		{"another tier", func(r *order.Request) { r.Tier = "gold" }, "tier"},
		{"no token", func(r *order.Request) { r.PaymentToken = "" }, "payment_token"},
		{"a long token", func(r *order.Request) { r.PaymentToken = strings.Repeat("t", 129) }, "payment_token"},
		{"no items", func(r *order.Request) { r.Items = nil }, "items"},
		{"too many items", func(r *order.Request) { r.Items = items(contract.MaxItems + 1) }, "items"},
		{"no SKU", func(r *order.Request) { r.Items[1].SKU = "" }, "items[1].sku"},
		{"a long SKU", func(r *order.Request) { r.Items[0].SKU = strings.Repeat("s", 129) }, "items[0].sku"},
		{"one SKU twice", func(r *order.Request) { r.Items[1].SKU = "mug" }, "items[1].sku"},
		{"no quantity", func(r *order.Request) { r.Items[0].Quantity = 0 }, "items[0].quantity"},
		{"a large quantity", func(r *order.Request) { r.Items[1].Quantity = contract.MaxQuantity + 1 }, "items[1].quantity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := request()
			c.mutate(&r)
			err := r.Validate()
			if c.field == "" {
				require.NoError(t, err)
				return
			}
			var invalid order.Invalid
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid, 1)
			require.Contains(t, invalid, c.field)
		})
	}
}

func TestValidateNamesEveryField(t *testing.T) {
	t.Parallel()
	var invalid order.Invalid
	require.ErrorAs(t, order.Request{Items: []order.Item{{}}}.Validate(), &invalid)
	for _, field := range []string{"customer_id", "region", "tier", "payment_token", "items[0].sku", "items[0].quantity"} {
		require.Contains(t, invalid, field)
	}
}

func TestCheckSKUs(t *testing.T) {
	t.Parallel()
	require.NoError(t, request().CheckSKUs(func(string) bool { return true }))
	err := request().CheckSKUs(func(sku string) bool { return sku == "mug" })
	require.Equal(t, order.Invalid{"items[1].sku": "unknown"}, err)
}

func TestHash(t *testing.T) {
	t.Parallel()
	one, err := request().Hash()
	require.NoError(t, err)
	same, err := request().Hash()
	require.NoError(t, err)
	require.Equal(t, one, same)
	other := request()
	other.PaymentToken = "tok_ok"
	another, err := other.Hash()
	require.NoError(t, err)
	require.NotEqual(t, one, another)
}
