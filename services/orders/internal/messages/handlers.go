// Package messages handles the events that orders consumes.
package messages

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
)

// Handlers changes orders because of events.
type Handlers struct {
	Store *postgres.Store
	// DropCatalogue clears the cache of the catalogue.
	DropCatalogue func()
	// Moved counts orders by their new status, Ignored events that changed nothing.
	Moved, Ignored *prometheus.CounterVec
	Log            *zap.Logger
}

// payment is what orders uses of a payment event.
type payment struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

// Validate names the field that is missing.
func (p payment) Validate() error {
	if p.OrderID == "" {
		return errors.New("order_id is missing")
	}
	return nil
}

// Payments handles a shard of payment events.
func (h *Handlers) Payments() messaging.Handler {
	mux := messaging.NewMux(contract.Operator)
	for kind, event := range map[messaging.MessageType]order.Event{
		contract.PaymentCaptured: order.PaymentCaptured,
		contract.PaymentDeclined: order.PaymentDeclined,
		contract.PaymentRefunded: order.PaymentRefunded,
	} {
		mux.Handle(kind, transactional.JSON(h.Store.DB, func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, p payment) error {
			return h.settle(ctx, tx, d, p.OrderID, event, p.Reason)
		}))
	}
	return mux.Handler()
}

// deadline is what orders uses of a payment deadline.
type deadline struct {
	OrderID string `json:"order_id"`
}

// Validate names the field that is missing.
func (d deadline) Validate() error { return payment{OrderID: d.OrderID}.Validate() }

// Expired handles payment deadlines that have passed.
func (h *Handlers) Expired() messaging.Handler {
	mux := messaging.NewMux(contract.Operator)
	mux.Handle(contract.PaymentDeadline, transactional.JSON(h.Store.DB, func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, body deadline) error {
		return h.settle(ctx, tx, d, body.OrderID, order.DeadlinePassed, "not paid in time")
	}))
	return mux.Handler()
}

// PriceChanges handles the queue of this instance. Each message means that the cached
// catalogue is old, so its body is not read.
func (h *Handlers) PriceChanges() messaging.Handler {
	return messaging.HandlerFunc(func(context.Context, *messaging.Delivery) error {
		h.DropCatalogue()
		return nil
	})
}

// settle applies an event to an order.
func (h *Handlers) settle(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, id string, event order.Event, reason string) error {
	o, effect, err := h.Store.Settle(ctx, tx, id, event, reason)
	if errors.Is(err, order.ErrNotFound) {
		return messaging.Permanent(err)
	}
	if err != nil {
		return err
	}
	tx.OnCommit(func() { h.report(d, o, event, effect) })
	return nil
}

// report counts and logs the effect of an event.
func (h *Handlers) report(d *messaging.Delivery, o *order.Order, event order.Event, effect order.Effect) {
	log := h.Log.With(zap.String("order_id", o.ID), zap.String("event", string(event)), zap.String("message_id", d.ID))
	if effect == order.Nothing {
		h.Ignored.WithLabelValues(string(event)).Inc()
		log.Info("event changed nothing: it is a copy, or came too late")
		return
	}
	if effect == order.Announce {
		h.Moved.WithLabelValues(string(o.Status)).Inc()
	}
	log.Info("event applied", zap.String("status", string(o.Status)), zap.String("effect", string(effect)))
}
