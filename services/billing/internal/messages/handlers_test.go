package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/billing/internal/charge"
)

func fixture[T interface{ Validate() error }](t *testing.T, kind messaging.MessageType) T {
	t.Helper()
	encoded, err := contract.Fixture(kind.Name)
	require.NoError(t, err)
	var body T
	require.NoError(t, json.Unmarshal(encoded, &body))
	require.NoError(t, body.Validate())
	return body
}

func TestFixturesOfTheContract(t *testing.T) {
	t.Parallel()
	d := &messaging.Delivery{Message: messaging.Message{ID: "m-1"}, Queue: "q", Attempt: 2}
	encoded, err := contract.Fixture(contract.Charge.Name)
	require.NoError(t, err)
	var published contract.ChargeBody
	require.NoError(t, json.Unmarshal(encoded, &published))
	want := charge.Command{
		Received:  charge.Received{Queue: "q", MessageID: "m-1", Attempt: 2},
		PaymentID: published.PaymentID, OrderID: published.OrderID, Amount: published.Amount,
		CustomerID: published.CustomerID, Region: published.Region, Tier: published.Tier,
	}
	require.Equal(t, want, fixture[chargeCommand](t, contract.Charge).command(d))
	require.Equal(t, want, fixture[refundCommand](t, contract.Refund).command(d))
	require.Equal(t, published.PaymentToken, fixture[chargeCommand](t, contract.Charge).PaymentToken)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		mutate func(*chargeCommand)
	}{
		{"payment_id", func(c *chargeCommand) { c.PaymentID = "" }},
		{"order_id", func(c *chargeCommand) { c.OrderID = "" }},
		{"amount.amount_minor", func(c *chargeCommand) { c.Amount.AmountMinor = 0 }},
		{"amount.currency", func(c *chargeCommand) { c.Amount.Currency = "" }},
		{"amount.currency", func(c *chargeCommand) { c.Amount.Currency = "ZZZ" }},
		{"payment_token", func(c *chargeCommand) { c.PaymentToken = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body := fixture[chargeCommand](t, contract.Charge)
			c.mutate(&body)
			require.ErrorContains(t, body.Validate(), c.name+":")
		})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for err, permanent := range map[error]bool{
		nil:                    false,
		charge.ErrMismatch:     true,
		charge.ErrDeclined:     true,
		charge.ErrNotCaptured:  false,
		errors.New("database"): false,
	} {
		if err == nil {
			require.NoError(t, verdict(nil))
			continue
		}
		wrapped := fmt.Errorf("charge payment: %w", err)
		require.Equal(t, permanent, messaging.IsPermanent(verdict(wrapped)), err)
		require.ErrorIs(t, verdict(wrapped), err)
	}
}

// Errors of PostgreSQL have the verdict of inbox.Verdict.
func TestVerdictOnTheDatabase(t *testing.T) {
	t.Parallel()
	away := verdict(fmt.Errorf("settle: %w", &pgconn.PgError{Code: "57P01"})) // admin_shutdown
	require.True(t, messaging.IsUnavailable(away))
	unstorable := verdict(fmt.Errorf("settle: %w", &pgconn.PgError{Code: "22021"})) // a NUL in a text
	require.True(t, messaging.IsPermanent(unstorable))
}
