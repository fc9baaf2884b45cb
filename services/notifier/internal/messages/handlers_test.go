package messages_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/notifier/internal/messages"
	"example.com/orderflow/services/notifier/internal/notify"
	"example.com/orderflow/services/notifier/internal/postgres"
)

// fixture has the handlers with a real database, a receiver of webhooks whose answers the test
// sets, and a mail server that cannot be reached.
type fixture struct {
	*messages.Handlers
	db     *servicetest.DB
	status atomic.Int32 // what the receiver answers
	calls  atomic.Int32 // number of calls
	during func()       // what happens while it is called
}

func setup(t *testing.T) *fixture {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	f := &fixture{db: db, during: func() {}}
	f.status.Store(http.StatusNoContent)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f.calls.Add(1)
		f.during()
		w.WriteHeader(int(f.status.Load()))
	}))
	to, err := url.Parse(receiver.URL)
	require.NoError(t, err)
	webhook := notify.NewWebhook(to, "")
	t.Cleanup(func() {
		webhook.Close()
		receiver.Close()
	})
	email, err := notify.NewEmail(notify.SMTP{Addr: "127.0.0.1:1", From: "shop@example.com"})
	require.NoError(t, err)
	f.Handlers = &messages.Handlers{
		Store: postgres.NewStore(db.DB), Email: email, Webhook: webhook, Log: zap.NewNop(),
	}
	return f
}

// from makes a delivery of a message that the type's owner has published.
func from(t *testing.T, queue messaging.Queue, kind messaging.MessageType, body any) *messaging.Delivery {
	t.Helper()
	m, err := messaging.NewMessage(kind, body)
	require.NoError(t, err)
	m.UserID, m.CorrelationID = kind.Owner, "o1"
	return &messaging.Delivery{Message: m, Queue: queue.Name, Exchange: kind.Exchange, Attempt: 1}
}

func notification(t *testing.T, n contract.NotificationBody) *messaging.Delivery {
	t.Helper()
	return from(t, contract.NotifierWebhook, contract.Notification, n)
}

var amount = contract.Money{AmountMinor: 1999, Currency: "EUR"}

func TestDecideOncePerMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	paid := from(t, contract.NotifierOrders, contract.OrderPaid, contract.OrderBody{OrderID: "o1", CustomerID: "ada", Tier: contract.TierStandard, Total: amount})
	captured := from(t, contract.NotifierReceipts, contract.PaymentCaptured, contract.PaymentBody{PaymentID: "p1", OrderID: "o1", CustomerID: "ada", Amount: amount})
	quiet := from(t, contract.NotifierOrders, contract.OrderPlaced, contract.OrderBody{OrderID: "o1", CustomerID: "ada", Tier: contract.TierStandard, Total: amount})
	for range 3 {
		for _, d := range []*messaging.Delivery{paid, captured, quiet} {
			require.NoError(t, f.Decide().Handle(t.Context(), d))
		}
	}
	waiting, _, err := outbox.Count(t.Context(), f.db.Pool())
	require.NoError(t, err)
	require.EqualValues(t, 2, waiting, "a mail and a receipt")
	require.NotZero(t, f.db.Commits())
}

func TestDecideParksWhatItCannotRead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	nameless := from(t, contract.NotifierOrders, contract.OrderPaid, contract.OrderBody{OrderID: "o1"})
	require.ErrorContains(t, f.Decide().Handle(t.Context(), nameless), "customer_id is missing")
	stranger := from(t, contract.NotifierOrders, contract.OrderPaid, contract.OrderBody{OrderID: "o1", CustomerID: "ada"})
	stranger.UserID = contract.PricingUser
	require.ErrorIs(t, f.Decide().Handle(t.Context(), stranger), messaging.ErrUntrustedSource)
	for _, d := range []*messaging.Delivery{nameless, stranger} {
		require.True(t, messaging.IsPermanent(f.Decide().Handle(t.Context(), d)))
	}
	require.Zero(t, f.db.Commits())
}

func TestSendOncePerDedupeKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	n := contract.NotificationBody{Template: notify.TemplatePlaced, DedupeKey: "order-placed:o1"}
	require.NoError(t, f.SendWebhook().Handle(t.Context(), notification(t, n)))
	require.NoError(t, f.SendWebhook().Handle(t.Context(), notification(t, n)), "a copy with another message id")
	require.EqualValues(t, 1, f.calls.Load())

	n.DedupeKey = "order-placed:o2"
	require.NoError(t, f.SendWebhook().Handle(t.Context(), notification(t, n)))
	require.EqualValues(t, 2, f.calls.Load())
}

func TestSendAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := notification(t, contract.NotificationBody{Template: notify.TemplatePlaced, DedupeKey: "k1"})
	f.status.Store(http.StatusServiceUnavailable)
	require.True(t, messaging.IsUnavailable(f.SendWebhook().Handle(t.Context(), d)))
	f.status.Store(http.StatusOK)
	require.NoError(t, f.SendWebhook().Handle(t.Context(), d))
	require.EqualValues(t, 2, f.calls.Load())
}

func TestSentIsSentThoughItIsNotRemembered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.during = f.db.Pool().Close
	require.NoError(t, f.SendWebhook().Handle(t.Context(), notification(t, contract.NotificationBody{Template: "e", DedupeKey: "k1"})))
}

func TestSendFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.status.Store(http.StatusGone)
	ada := "ada@example.com"
	for _, c := range []struct {
		name      string
		handler   messaging.Handler
		body      contract.NotificationBody
		permanent bool
		want      string
	}{
		{"webhook refused", f.SendWebhook(), contract.NotificationBody{Template: "e", DedupeKey: "k"}, true, "410 Gone"},
		{"no template", f.SendEmail(), contract.NotificationBody{Recipient: ada, DedupeKey: "k"}, true, "template is missing"},
		{"no dedupe key", f.SendEmail(), contract.NotificationBody{Recipient: ada, Template: notify.TemplatePaid}, true, "dedupe_key is missing"},
		{"unknown template", f.SendEmail(), contract.NotificationBody{Recipient: ada, Template: "poem", DedupeKey: "k"}, true, "poem"},
		{"no address", f.SendEmail(), contract.NotificationBody{Recipient: "ada", Template: notify.TemplatePaid, DedupeKey: "k"}, true, "not a mail address"},
		{"mail server away", f.SendEmail(), contract.NotificationBody{Recipient: ada, Template: notify.TemplatePaid, DedupeKey: "k"}, false, "send a mail"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.handler.Handle(t.Context(), notification(t, c.body))
			require.ErrorContains(t, err, c.want)
			require.Equal(t, c.permanent, messaging.IsPermanent(err))
			require.Equal(t, !c.permanent, messaging.IsUnavailable(err))
		})
	}
}

// Errors of PostgreSQL have the verdict of inbox.Verdict.
func TestVerdictOnTheDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	order := from(t, contract.NotifierOrders, contract.OrderPaid, contract.OrderBody{OrderID: "o1", CustomerID: "ada", Total: amount})
	sending := notification(t, contract.NotificationBody{Recipient: "ada@example.com", Template: "order-paid", DedupeKey: "order-paid:\x00"})
	require.True(t, messaging.IsPermanent(f.SendWebhook().Handle(t.Context(), sending)), "a NUL cannot be stored")

	f.Store = postgres.NewStore(servicetest.NewAwayDB(t))
	for _, handled := range []error{f.Decide().Handle(t.Context(), order), f.SendWebhook().Handle(t.Context(), sending), f.SendEmail().Handle(t.Context(), sending)} {
		require.True(t, messaging.IsUnavailable(handled), "an absent database is no message's fault: %v", handled)
	}
	require.Zero(t, f.calls.Load())
}
