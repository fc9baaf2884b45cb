package messages

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/services/notifier/internal/notify"
)

func FuzzOrderEvent(f *testing.F) {
	seed, err := contract.Fixture(contract.OrderPaid.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON(f, func(t *testing.T, o notify.Order) {
		t.Helper()
		for _, note := range notify.ForOrder(contract.OrderPaid.Name, o) {
			require.NotEmpty(t, note.DedupeKey)
		}
	}, seed)
}

func FuzzPaymentEvent(f *testing.F) {
	seed, err := contract.Fixture(contract.PaymentCaptured.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON(f, func(t *testing.T, p notify.Payment) {
		t.Helper()
		for _, note := range notify.ForPayment(contract.PaymentCaptured.Name, p) {
			require.NotEmpty(t, note.DedupeKey)
		}
	}, seed)
}

// For any data of a template, Render returns a mail or an error.
func FuzzNotification(f *testing.F) {
	seed, err := contract.Fixture(contract.Notification.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON(f, func(t *testing.T, n notification) {
		t.Helper()
		subject, _, err := notify.Render(n.Template, n.Data)
		if err == nil {
			require.NotContains(t, subject, "\n", "a subject is one line")
		}
	}, seed)
}
