package messages

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func FuzzChargeCommand(f *testing.F) {
	seed, err := contract.Fixture(contract.Charge.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON(f, func(t *testing.T, c chargeCommand) {
		t.Helper()
		require.Positive(t, c.Amount.AmountMinor, "every amount is above zero")
		require.Equal(t, contract.Currency, c.Amount.Currency)
		require.NotEmpty(t, c.PaymentID, "it is the idempotency key")
	}, seed)
}

func FuzzRefundCommand(f *testing.F) {
	seed, err := contract.Fixture(contract.Refund.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON(f, func(t *testing.T, c refundCommand) {
		t.Helper()
		require.Positive(t, c.Amount.AmountMinor)
	}, seed)
}
