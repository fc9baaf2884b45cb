package order_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/services/orders/internal/order"
)

var at = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

// outcome is the state of an order after an event, and the effect.
type outcome struct {
	to     order.Status
	effect order.Effect
}

// The whole table of the design: every status with every event.
func TestApply(t *testing.T) {
	t.Parallel()
	const (
		placed, paid, declined, cancelled, refunded = order.Placed, order.Paid, order.Declined, order.Cancelled, order.Refunded
		none, tell, refund                          = order.Nothing, order.Announce, order.CommandRefund
	)
	for _, row := range []struct {
		from       order.Status
		refundOpen bool
		captured   outcome
		declined   outcome
		refunded   outcome
		deadline   outcome
		cancels    outcome
	}{
		{placed, false, outcome{paid, tell}, outcome{declined, tell}, outcome{placed, none}, outcome{cancelled, tell}, outcome{cancelled, tell}},
		{paid, false, outcome{paid, none}, outcome{paid, none}, outcome{refunded, tell}, outcome{paid, none}, outcome{paid, refund}},
		{paid, true, outcome{paid, none}, outcome{paid, none}, outcome{refunded, tell}, outcome{paid, none}, outcome{paid, none}},
		{declined, false, outcome{declined, refund}, outcome{declined, none}, outcome{refunded, tell}, outcome{declined, none}, outcome{declined, none}},
		{declined, true, outcome{declined, none}, outcome{declined, none}, outcome{refunded, tell}, outcome{declined, none}, outcome{declined, none}},
		{cancelled, false, outcome{cancelled, refund}, outcome{cancelled, none}, outcome{refunded, tell}, outcome{cancelled, none}, outcome{cancelled, none}},
		{cancelled, true, outcome{cancelled, none}, outcome{cancelled, none}, outcome{refunded, tell}, outcome{cancelled, none}, outcome{cancelled, none}},
		{refunded, false, outcome{refunded, none}, outcome{refunded, none}, outcome{refunded, none}, outcome{refunded, none}, outcome{refunded, none}},
	} {
		for event, want := range map[order.Event]outcome{
			order.PaymentCaptured: row.captured,
			order.PaymentDeclined: row.declined,
			order.PaymentRefunded: row.refunded,
			order.DeadlinePassed:  row.deadline,
			order.CustomerCancels: row.cancels,
		} {
			t.Run(fmt.Sprintf("%s, refund open %t, %s", row.from, row.refundOpen, event), func(t *testing.T) {
				t.Parallel()
				expected := order.Order{Status: want.to, RefundOpen: row.refundOpen}
				switch want.effect {
				case order.Announce:
					expected.RefundOpen = false
					expected.History = []order.Change{{Status: want.to, At: at, Reason: "because"}}
				case order.CommandRefund:
					expected.RefundOpen = true
				}
				o := order.Order{Status: row.from, RefundOpen: row.refundOpen}
				require.Equal(t, want.effect, o.Apply(event, "because", at))
				require.Equal(t, expected, o)

				require.Equal(t, order.Nothing, o.Apply(event, "again", at.Add(time.Hour)), "the same event again")
				require.Equal(t, expected, o)
			})
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		from   order.Order
		effect order.Effect
		err    error
	}{
		{"placed", order.Order{Status: order.Placed}, order.Announce, nil},
		{"paid", order.Order{Status: order.Paid}, order.CommandRefund, nil},
		{"paid, while the refund runs", order.Order{Status: order.Paid, RefundOpen: true}, order.Nothing, nil},
		{"declined", order.Order{Status: order.Declined}, order.Nothing, order.ErrClosed},
		{"declined, while the refund runs", order.Order{Status: order.Declined, RefundOpen: true}, order.Nothing, nil},
		{"cancelled", order.Order{Status: order.Cancelled}, order.Nothing, order.ErrClosed},
		{"cancelled, while the refund runs", order.Order{Status: order.Cancelled, RefundOpen: true}, order.Nothing, nil},
		{"refunded", order.Order{Status: order.Refunded}, order.Nothing, order.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			effect, err := c.from.Cancel(at)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.effect, effect)
		})
	}
}
