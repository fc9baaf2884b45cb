package messages

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
)

// orderID is the id of the order in the contract's fixtures.
const orderID = "01932b6e-7c00-7000-8000-00000000a001"

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
	for _, kind := range []messaging.MessageType{contract.PaymentCaptured, contract.PaymentDeclined, contract.PaymentRefunded} {
		encoded, err := contract.Fixture(kind.Name)
		require.NoError(t, err)
		var published contract.PaymentBody
		require.NoError(t, json.Unmarshal(encoded, &published))
		require.Equal(t, payment{OrderID: orderID, Reason: published.Reason}, fixture[payment](t, kind))
	}
	require.NotEmpty(t, fixture[payment](t, contract.PaymentDeclined).Reason)
	require.Equal(t, deadline{orderID}, fixture[deadline](t, contract.PaymentDeadline))

	require.ErrorContains(t, payment{}.Validate(), "order_id")
	require.ErrorContains(t, deadline{}.Validate(), "order_id")
}

// world has the handlers with a real database, which has the fixtures' order.
type world struct {
	*Handlers
	db       *servicetest.DB
	registry *prometheus.Registry
	drops    int
}

func setup(t *testing.T) *world {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	w := &world{db: db, registry: prometheus.NewRegistry()}
	w.Handlers = &Handlers{
		Store:         postgres.NewStore(db.DB),
		DropCatalogue: func() { w.drops++ },
		Moved:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moved"}, []string{"status"}),
		Ignored:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ignored"}, []string{"event"}),
		Log:           zap.NewNop(),
	}
	w.registry.MustRegister(w.Moved, w.Ignored)
	_, _, err := w.Store.Place(t.Context(), &order.Order{
		ID: orderID, PaymentID: uuid.NewString(), Status: order.Placed, Region: contract.RegionEU, Tier: contract.TierStandard,
		Items: []order.Item{{SKU: "mug", Quantity: 1}}, History: []order.Change{{Status: order.Placed, At: time.Now()}},
	}, nil, "", nil)
	require.NoError(t, err)
	return w
}

// delivery is a fixture of the contract as a delivery.
func delivery(t *testing.T, kind messaging.MessageType, id string) *messaging.Delivery {
	t.Helper()
	body, err := contract.Fixture(kind.Name)
	require.NoError(t, err)
	return &messaging.Delivery{
		Queue: "q", Exchange: kind.Exchange, Attempt: 1,
		Message: messaging.Message{ID: id, Type: kind.Name, UserID: kind.Owner, ContentType: "application/json", Body: body},
	}
}

// A payment that is captured after it was declined is refunded.
func TestACaptureOfADeclinedOrderIsRefunded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i, step := range []struct {
		kind    messaging.MessageType
		want    order.Status
		refunds int // commands in the outbox
	}{
		{contract.PaymentDeclined, order.Declined, 0},
		{contract.PaymentCaptured, order.Declined, 1},
		{contract.PaymentCaptured, order.Declined, 1}, // a copy with another message id
		{contract.PaymentRefunded, order.Refunded, 1},
		{contract.PaymentCaptured, order.Refunded, 1},
	} {
		require.NoError(t, w.Payments().Handle(t.Context(), delivery(t, step.kind, fmt.Sprint("m-", i))))
		o, err := w.Store.Find(t.Context(), orderID)
		require.NoError(t, err)
		require.Equal(t, step.want, o.Status, "%d", i)
		require.Equal(t, i == 1 || i == 2, o.RefundOpen, "%d", i)
		var refunds int
		require.NoError(t, w.db.Pool().QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE message->>'Type' = $1`, contract.Refund.Name).Scan(&refunds))
		require.Equal(t, step.refunds, refunds, "%d", i)
	}
}

// counted returns the counters by name and label.
func (w *world) counted(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := w.registry.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			counts[family.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counts
}

func TestHandlersMoveOrders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, step := range []struct {
		handler messaging.Handler
		kind    messaging.MessageType
		id      string
		want    order.Status
	}{
		{w.Expired(), contract.PaymentDeadline, "m-1", order.Cancelled},
		{w.Expired(), contract.PaymentDeadline, "m-1", order.Cancelled}, // a copy, which is not counted
		{w.Payments(), contract.PaymentDeclined, "m-2", order.Cancelled},
		{w.Payments(), contract.PaymentCaptured, "m-3", order.Cancelled}, // too late: a refund is commanded
		{w.Payments(), contract.PaymentRefunded, "m-4", order.Refunded},
	} {
		require.NoError(t, step.handler.Handle(t.Context(), delivery(t, step.kind, step.id)))
		o, err := w.Store.Find(t.Context(), orderID)
		require.NoError(t, err)
		require.Equal(t, step.want, o.Status, step.id)
	}
	require.Equal(t, map[string]float64{
		"moved cancelled": 1, "moved refunded": 1,
		"ignored payment declined": 1,
	}, w.counted(t))
	require.Positive(t, w.db.Commits())
}

func TestWhatCannotBeHandledIsPermanent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, mutate := range map[string]func(d *messaging.Delivery){
		"an unknown order": func(d *messaging.Delivery) { d.Body = []byte(`{"order_id":"` + uuid.NewString() + `"}`) },
		"no order":         func(d *messaging.Delivery) { d.Body = []byte(`{}`) },
		"no JSON":          func(d *messaging.Delivery) { d.Body = []byte(`{`) },
		"no id":            func(d *messaging.Delivery) { d.ID = "" },
		"a false sender":   func(d *messaging.Delivery) { d.UserID = contract.NotifierUser },
		"another type":     func(d *messaging.Delivery) { d.Type = contract.OrderPaid.Name },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := delivery(t, contract.PaymentCaptured, "m-1")
			mutate(d)
			err := w.Payments().Handle(t.Context(), d)
			require.Error(t, err)
			require.True(t, messaging.IsPermanent(err), err)
		})
	}
}

func TestAnAbsentDatabaseIsTransient(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := w.Payments().Handle(ctx, delivery(t, contract.PaymentCaptured, "m-1"))
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, messaging.IsPermanent(err))
}

// Errors of PostgreSQL have the verdict of inbox.Verdict.
func TestVerdictOnTheDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	err := w.Payments().Handle(t.Context(), delivery(t, contract.PaymentCaptured, "m-\x00"))
	require.True(t, messaging.IsPermanent(err), "a NUL will never be stored: %v", err)

	w.Store = postgres.NewStore(servicetest.NewAwayDB(t))
	for kind, handler := range map[messaging.MessageType]messaging.Handler{contract.PaymentCaptured: w.Payments(), contract.PaymentDeadline: w.Expired()} {
		err := handler.Handle(t.Context(), delivery(t, kind, "m-1"))
		require.True(t, messaging.IsUnavailable(err), "an absent database is no message's fault: %v", err)
	}
}

func TestPriceChangesDropTheCatalogue(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.Handlers = &Handlers{DropCatalogue: func() { w.drops++ }}
	require.NoError(t, w.PriceChanges().Handle(t.Context(), delivery(t, contract.PriceChanged, "m-1")))
	require.Equal(t, 1, w.drops)
}
