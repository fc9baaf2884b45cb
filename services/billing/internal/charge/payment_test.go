package charge_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/services/billing/internal/charge"
)

func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		from, outcome charge.State
		want          charge.State
		err           error
	}{
		{"a charge succeeds", charge.Pending, charge.Captured, charge.Captured, nil},
		{"a charge is declined", charge.Pending, charge.Declined, charge.Declined, nil},
		{"a refund overtakes its charge", charge.Pending, charge.Refunded, charge.Pending, charge.ErrNotCaptured},
		{"captured again", charge.Captured, charge.Captured, charge.Captured, nil},
		{"declined after the capture", charge.Captured, charge.Declined, charge.Captured, nil},
		{"a refund", charge.Captured, charge.Refunded, charge.Refunded, nil},
		{"declined again", charge.Declined, charge.Declined, charge.Declined, nil},
		{"captured after it was declined", charge.Declined, charge.Captured, charge.Captured, nil},
		{"a refund of nothing", charge.Declined, charge.Refunded, charge.Declined, charge.ErrDeclined},
		{"captured after the refund", charge.Refunded, charge.Captured, charge.Refunded, nil},
		{"declined after the refund", charge.Refunded, charge.Declined, charge.Refunded, nil},
		{"refunded again", charge.Refunded, charge.Refunded, charge.Refunded, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.from.Next(c.outcome)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.want, got)
		})
	}
}
