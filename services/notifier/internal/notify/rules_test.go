package notify_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/notifier/internal/notify"
)

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	cases := []struct {
		event, tier string
		want        string // channel/urgency/template; empty for no notification
	}{
		{contract.OrderPlaced.Name, contract.TierStandard, ""},
		{contract.OrderPlaced.Name, contract.TierExpress, "webhook/high/order-placed"},
		{contract.OrderPaid.Name, contract.TierStandard, "email/normal/order-paid"},
		{contract.OrderPaid.Name, contract.TierExpress, "email/high/order-paid"},
		{contract.OrderDeclined.Name, contract.TierStandard, "email/normal/order-declined"},
		{contract.OrderCancelled.Name, contract.TierStandard, "email/normal/order-cancelled"},
		{contract.OrderRefunded.Name, contract.TierStandard, ""},
		{contract.OrderRefunded.Name, contract.TierExpress, "webhook/high/order-refunded"},
	}
	for _, c := range cases {
		t.Run(c.event+" "+c.tier, func(t *testing.T) {
			t.Parallel()
			notes := notify.ForOrder(c.event, notify.Order{OrderID: "o1", CustomerID: "ada", Tier: c.tier})
			if c.want == "" {
				require.Empty(t, notes)
				return
			}
			require.Len(t, notes, 1)
			n := notes[0]
			require.Equal(t, c.want, n.Channel+"/"+n.Urgency+"/"+n.Template)
			require.Equal(t, n.Template+":o1", n.DedupeKey)
		})
	}
	t.Run("receipts", func(t *testing.T) {
		t.Parallel()
		p := notify.Payment{PaymentID: "p1", OrderID: "o1", CustomerID: "ada", Tier: contract.TierExpress}
		require.Equal(t, notify.TemplateReceipt, notify.ForPayment(contract.PaymentCaptured.Name, p)[0].Template)
		require.Equal(t, notify.TemplateRefundReceipt, notify.ForPayment(contract.PaymentRefunded.Name, p)[0].Template)
		require.Empty(t, notify.ForPayment(contract.PaymentDeclined.Name, p))
	})
}

// The rules can read the bodies that orders and billing publish.
func TestFixtures(t *testing.T) {
	t.Parallel()
	for _, kind := range []messaging.MessageType{contract.OrderPlaced, contract.OrderPaid, contract.OrderDeclined, contract.OrderCancelled, contract.OrderRefunded} {
		var o notify.Order
		decode(t, kind.Name, &o)
		require.NoError(t, o.Validate(), kind.Name)
		require.NotZero(t, o.Total, kind.Name)
	}
	for _, kind := range []messaging.MessageType{contract.PaymentCaptured, contract.PaymentDeclined, contract.PaymentRefunded} {
		var p notify.Payment
		decode(t, kind.Name, &p)
		require.NoError(t, p.Validate(), kind.Name)
		require.NotZero(t, p.Amount, kind.Name)
	}
}

// An event with an impossible amount is refused.
func TestWhatIsNoAmount(t *testing.T) {
	t.Parallel()
	for field, amount := range map[string]contract.Money{
		"amount_minor": {AmountMinor: -1, Currency: "EUR"},
		"currency":     {AmountMinor: 1, Currency: "ZZZ"},
	} {
		require.ErrorContains(t, notify.Order{OrderID: "o1", CustomerID: "ada", Total: amount}.Validate(), "total."+field+":")
		require.ErrorContains(t, notify.Payment{PaymentID: "p1", OrderID: "o1", CustomerID: "ada", Amount: amount}.Validate(), "amount."+field+":")
	}
}

// An event whose customer id makes no mail address is refused.
func TestWhoHasNoAddress(t *testing.T) {
	t.Parallel()
	amount := contract.Money{AmountMinor: 1, Currency: "EUR"}
	for _, id := range []string{"a..b", "a.", "eve@example.com", "a b"} {
		require.ErrorContains(t, notify.Order{OrderID: "o1", CustomerID: id, Total: amount}.Validate(), "customer_id: ")
		require.ErrorContains(t, notify.Payment{PaymentID: "p1", OrderID: "o1", CustomerID: id, Amount: amount}.Validate(), "customer_id: ")
	}
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	fixture, err := contract.Fixture(name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(fixture, into))
}

func TestRender(t *testing.T) {
	t.Parallel()
	data := map[string]any{"order_id": "o1\r\nBcc: eve@example.com", "payment_id": "p1", "amount": "19.99 EUR", "reason": "no money"}
	for _, name := range []string{
		notify.TemplatePaid, notify.TemplateDeclined, notify.TemplateCancelled, notify.TemplatePlaced,
		notify.TemplateOrderRefunded, notify.TemplateReceipt, notify.TemplateRefundReceipt,
	} {
		subject, body, err := notify.Render(name, data)
		require.NoError(t, err)
		require.Contains(t, body, "19.99 EUR", name)
		require.False(t, strings.ContainsAny(subject, "\r\n"), "a subject is one line")
	}
	_, _, err := notify.Render("nothing", data)
	require.ErrorIs(t, err, notify.ErrNoTemplate)
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for amount, want := range map[int64]string{1999: "19.99 EUR", 5: "0.05 EUR", 0: "0.00 EUR", -250: "-2.50 EUR"} {
		require.Equal(t, want, notify.Format(contract.Money{AmountMinor: amount, Currency: "EUR"}))
	}
}
