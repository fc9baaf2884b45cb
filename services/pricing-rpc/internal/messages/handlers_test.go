package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

func fixture[T any](t *testing.T, kind messaging.MessageType) (body T) {
	t.Helper()
	encoded, err := contract.Fixture(kind.Name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(encoded, &body))
	return body
}

// setup makes handlers with a real database.
func setup(t *testing.T) *Handlers {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	return &Handlers{Store: postgres.NewStore(db.DB), Log: zap.NewNop()}
}

func TestQuoteOfTheContract(t *testing.T) {
	t.Parallel()
	h := setup(t)
	request := fixture[contract.PricingQuoteBody](t, contract.PricingQuote)
	require.NotEmpty(t, request.Items)

	_, err := h.quote(t.Context(), &messaging.Delivery{}, request)
	var refused *messaging.RemoteError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, contract.CodeUnknownSKU, refused.Code)
	require.Len(t, refused.Fields, len(request.Items))

	var total int64
	for i, item := range request.Items {
		price := contract.Money{AmountMinor: int64(100 * (i + 1)), Currency: contract.Currency}
		_, err := h.Store.Put(t.Context(), pricing.Price{SKU: item.SKU, Name: item.SKU, Price: price})
		require.NoError(t, err)
		total += price.AmountMinor * int64(item.Quantity)
	}
	reply, err := h.quote(t.Context(), &messaging.Delivery{}, request)
	require.NoError(t, err)
	require.Equal(t, contract.Money{AmountMinor: total, Currency: contract.Currency}, reply.Total)
	require.Len(t, reply.Lines, len(request.Items))
	require.Equal(t, int64(1+len(request.Items)), reply.CatalogueVersion)

	_, err = h.quote(t.Context(), &messaging.Delivery{}, contract.PricingQuoteBody{})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, contract.CodeInvalidRequest, refused.Code)
	require.Contains(t, refused.Fields, "items")
}

func TestCatalogueOfTheContract(t *testing.T) {
	t.Parallel()
	h := setup(t)
	reply, err := h.catalogue(t.Context(), &messaging.Delivery{}, fixture[contract.PricingCatalogueBody](t, contract.PricingCatalogue))
	require.NoError(t, err)
	require.Equal(t, int64(1), reply.Version)
	require.Len(t, reply.Prices, 8)
	require.Contains(t, reply.Prices, contract.Price{
		SKU: "mug", Name: "Mug with a rabbit", Price: contract.Money{AmountMinor: 1290, Currency: contract.Currency}, Version: 1,
	})
}

func TestRemote(t *testing.T) {
	t.Parallel()
	fields := map[string]string{"items[0].sku": "because"}
	for _, c := range []struct {
		name string
		err  error
		code string
	}{
		{"invalid", pricing.Invalid(fields), contract.CodeInvalidRequest},
		{"unknown", pricing.UnknownSKUs(fields), contract.CodeUnknownSKU},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got *messaging.RemoteError
			require.ErrorAs(t, remote(fmt.Errorf("quote: %w", c.err)), &got)
			require.Equal(t, c.code, got.Code)
			require.Equal(t, fields, got.Fields)
		})
	}
	database := errors.New("database away")
	require.Equal(t, database, remote(database), "without a code, it is answered as unavailable")
}
