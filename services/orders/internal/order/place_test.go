package order_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/services/orders/internal/order"
)

func TestNew(t *testing.T) {
	t.Parallel()
	o, err := order.New(request(), total, at)
	require.NoError(t, err)
	require.Equal(t, &order.Order{
		ID: o.ID, PaymentID: o.PaymentID, Status: order.Placed, Total: total,
		CustomerID: "c-1042", Region: contract.RegionEU, Tier: contract.TierExpress, Items: request().Items,
		History: []order.Change{{Status: order.Placed, At: at}},
	}, o)
	require.NotEqual(t, o.ID, o.PaymentID)
	for _, id := range []string{o.ID, o.PaymentID} {
		require.Equal(t, uuid.Version(7), uuid.MustParse(id).Version(), "sorts by time")
	}
}
