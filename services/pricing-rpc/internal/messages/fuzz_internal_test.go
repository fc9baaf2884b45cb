package messages

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

// Requests have no Validate: they are checked against the catalogue.
type (
	quoteRequest     struct{ contract.PricingQuoteBody }
	catalogueRequest struct{ contract.PricingCatalogueBody }
)

func (quoteRequest) Validate() error     { return nil }
func (catalogueRequest) Validate() error { return nil }

// For any request there is a correct quote, or an error with a code.
func FuzzQuoteRequest(f *testing.F) {
	seed, err := contract.Fixture(contract.PricingQuote.Name)
	require.NoError(f, err)
	var catalogue pricing.Catalogue
	for _, item := range []string{"mug-blue", "tea-assam"} {
		catalogue.Prices = append(catalogue.Prices, pricing.Price{SKU: item, Price: contract.Money{AmountMinor: pricing.MaxAmount, Currency: contract.Currency}})
	}
	messagingtest.FuzzJSON(f, func(t *testing.T, request quoteRequest) {
		t.Helper()
		quote, err := catalogue.Quote(request.Items)
		if err != nil {
			var refused *messaging.RemoteError
			require.ErrorAs(t, remote(err), &refused)
			require.NotEmpty(t, refused.Fields)
			return
		}
		require.Len(t, quote.Lines, len(request.Items))
		var total int64
		for _, line := range quote.Lines {
			require.Positive(t, line.Total.AmountMinor)
			total += line.Total.AmountMinor
		}
		require.Equal(t, total, quote.Total.AmountMinor)
	}, seed, []byte(`{"items":[{"sku":"tea-assam","quantity":1000},{"sku":"tea","quantity":-1}]}`))
}

func FuzzCatalogueRequest(f *testing.F) {
	seed, err := contract.Fixture(contract.PricingCatalogue.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON[catalogueRequest](f, nil, seed)
}
