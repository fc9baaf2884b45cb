// Package messages handles what notifier consumes: events, and its own notifications.
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

// Handlers has one handler per queue.
type Handlers struct {
	Store   *postgres.Store
	Email   *notify.Email
	Webhook *notify.Webhook
	Log     *zap.Logger
}

// Decide handles both queues of events: it decides who is told.
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
		h.Log.Info("decided who is told", zap.String("type", d.Type), zap.String("message_id", d.ID),
			zap.String("order_id", d.CorrelationID), zap.Int("notifications", len(notes)))
	})
	return h.Store.Enqueue(ctx, tx, d, notes)
}

// notification is what the senders use of notification.v1.
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

// SendEmail handles the queue of the mail sender.
func (h *Handlers) SendEmail() messaging.Handler {
	return h.sender(contract.ChannelEmail, func(ctx context.Context, n notification) error {
		subject, body, err := notify.Render(n.Template, n.Data)
		if err != nil {
			return messaging.Permanent(err)
		}
		return h.Email.Send(ctx, n.Recipient, subject, body, n.DedupeKey)
	})
}

// SendWebhook handles the queue of the webhook sender. Its binding is "any", so it
// gets what is for the webhook, and everything urgent, whatever it is for.
func (h *Handlers) SendWebhook() messaging.Handler {
	return h.sender(contract.ChannelWebhook, func(ctx context.Context, n notification) error {
		return h.Webhook.Send(ctx, n.Template, n.Data, n.DedupeKey)
	})
}

// sender sends at least once: what was sent is remembered after it was sent, so a
// crash in between sends a second time, with the same dedupe key.
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
			return err // with its verdict
		}
		if err := h.Store.MarkSent(ctx, channel, n.DedupeKey); err != nil {
			// Sent is sent: another attempt would only send again.
			h.Log.Warn("sent, and not remembered", zap.String("message_id", d.ID), zap.Error(err))
		}
		h.Log.Info("sent", zap.String("channel", channel), zap.String("template", n.Template),
			zap.String("order_id", d.CorrelationID), zap.String("message_id", d.ID))
		return nil
	}))
	return mux.Handler()
}
