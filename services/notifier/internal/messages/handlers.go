// Package messages handles the messages that notifier consumes: events, and its own
// notifications.
package messages

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/services/notifier/internal/notify"
	"example.com/orderflow/services/notifier/internal/postgres"
)

// Handlers has the handlers of all queues.
type Handlers struct {
	Store   *postgres.Store
	Email   *notify.Email
	Webhook *notify.Webhook
	Log     *zap.Logger
}

// Decide handles both queues of events: it decides which notifications are sent.
func (h *Handlers) Decide() messaging.Handler {
	mux := messaging.NewMux(contract.Operator)
	for _, kind := range []messaging.MessageType{contract.OrderPlaced, contract.OrderPaid, contract.OrderDeclined, contract.OrderCancelled, contract.OrderRefunded} {
		mux.Handle(kind, transactional.JSON(h.Store.DB, func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, o notify.Order) error {
			return h.enqueue(ctx, tx, d, notify.ForOrder(d.Type, o))
		}))
	}
	for _, kind := range []messaging.MessageType{contract.PaymentCaptured, contract.PaymentDeclined, contract.PaymentRefunded} {
		mux.Handle(kind, transactional.JSON(h.Store.DB, func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, p notify.Payment) error {
			return h.enqueue(ctx, tx, d, notify.ForPayment(d.Type, p))
		}))
	}
	return mux.Handler()
}

func (h *Handlers) enqueue(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, notes []notify.Note) error {
	tx.OnCommit(func() {
		h.Log.Info("notifications decided", zap.String("type", d.Type), zap.String("message_id", d.ID),
			zap.String("order_id", d.CorrelationID), zap.Int("notifications", len(notes)))
	})
	return h.Store.Enqueue(ctx, tx, d, notes)
}

// notification has the fields of notification.v1 that the senders use.
type notification struct {
	Recipient string         `json:"recipient"`
	Template  string         `json:"template"`
	Data      map[string]any `json:"data"`
	DedupeKey string         `json:"dedupe_key"`
}

// Validate names the field that is missing.
func (n notification) Validate() error {
	switch {
	case n.Template == "":
		return errors.New("template is missing")
	case n.DedupeKey == "":
		return errors.New("dedupe_key is missing")
	default:
		return nil
	}
}

// SendEmail handles the queue of notifications by mail.
func (h *Handlers) SendEmail() messaging.Handler {
	return h.sender(contract.ChannelEmail, func(ctx context.Context, n notification) error {
		subject, body, err := notify.Render(n.Template, n.Data)
		if err != nil {
			return messaging.Permanent(err)
		}
		return h.Email.Send(ctx, n.Recipient, subject, body, n.DedupeKey)
	})
}

// SendWebhook handles the queue of notifications by webhook. Its binding matches "any", so it
// gets the notifications for the webhook, and all urgent ones.
func (h *Handlers) SendWebhook() messaging.Handler {
	return h.sender(contract.ChannelWebhook, func(ctx context.Context, n notification) error {
		return h.Webhook.Send(ctx, n.Template, n.Data, n.DedupeKey)
	})
}

// sender sends at least once: it stores that a notification was sent after sending it. After a
// crash in between, it sends a second time, with the same dedupe key.
func (h *Handlers) sender(channel string, send func(ctx context.Context, n notification) error) messaging.Handler {
	mux := messaging.NewMux(contract.Operator)
	mux.Handle(contract.Notification, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, n notification) error {
		sent, err := h.Store.WasSent(ctx, channel, n.DedupeKey)
		if err != nil {
			return inbox.Verdict(err)
		}
		if sent {
			h.Log.Info("already sent", zap.String("channel", channel), zap.String("message_id", d.ID))
			return nil
		}
		if err := send(ctx, n); err != nil {
			return err // it is marked with its verdict
		}
		if err := h.Store.MarkSent(ctx, channel, n.DedupeKey); err != nil {
			// It was sent: another attempt would send it again.
			h.Log.Warn("sent, but not stored as sent", zap.String("message_id", d.ID), zap.Error(err))
		}
		h.Log.Info("sent", zap.String("channel", channel), zap.String("template", n.Template),
			zap.String("order_id", d.CorrelationID), zap.String("message_id", d.ID))
		return nil
	}))
	return mux.Handler()
}
