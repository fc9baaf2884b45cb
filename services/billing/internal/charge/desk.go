package charge

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// Received says which delivery a command came by.
type Received struct {
	Queue     string
	MessageID string
	// Attempt counts the deliveries of this message, from 1.
	Attempt int
}

// Command asks for a charge or a refund.
type Command struct {
	Received  Received
	PaymentID string
	OrderID   string
	Amount    contract.Money
	// Customer, region and tier are passed on to those who hear the outcome.
	CustomerID, Region, Tier string
	// Token is how the customer pays; a refund has none. It goes to the provider
	// and nowhere else: not into the ledger, a log or an error.
	Token string
}

// Settlement is the outcome of a command, to be written in one transaction.
type Settlement struct {
	Received  Received
	PaymentID string
	Outcome   State
	Reason    string            // why it was declined
	Event     messaging.Message // announces the outcome
	Route     messaging.Route
}

// Ledger remembers payments. Package postgres has it.
type Ledger interface {
	// Seen says whether the message was settled.
	Seen(ctx context.Context, r Received) (bool, error)
	// Intend writes the payment down as pending, if its id is new, and gives what
	// the ledger has under the id.
	Intend(ctx context.Context, p Payment) (Payment, error)
	// Find gives a payment; found is false if the id is unknown.
	Find(ctx context.Context, paymentID string) (p Payment, found bool, err error)
	// Settle moves the payment to [State.Next] of the outcome, and announces that.
	// changed is false if there was nothing to do: the message was settled before,
	// or the outcome changes nothing.
	Settle(ctx context.Context, s Settlement) (changed bool, err error)
}

// Desk carries out commands. Safe for concurrent use; every command may come more
// than once, also at the same moment.
type Desk struct {
	ledger   Ledger
	provider *Provider
	log      *zap.Logger
}

// NewDesk makes a desk.
func NewDesk(ledger Ledger, provider *Provider, log *zap.Logger) *Desk {
	return &Desk{ledger, provider, log}
}

// seen says whether the message was settled, whatever it says this time: a second
// body under one id must not reach the provider, since it could not be written down.
func (d *Desk) seen(ctx context.Context, c Command) (bool, error) {
	seen, err := d.ledger.Seen(ctx, c.Received)
	if err != nil {
		return false, fmt.Errorf("take payment %s: %w", c.PaymentID, err)
	}
	if seen {
		d.log.Info("nothing to do, message is settled already", c.fields()...)
	}
	return seen, nil
}

// settle writes the outcome down and announces it.
func (d *Desk) settle(ctx context.Context, c Command, outcome State, kind messaging.MessageType, reason string) error {
	event, err := messaging.NewMessage(kind, contract.PaymentBody{
		PaymentID:  c.PaymentID,
		OrderID:    c.OrderID,
		CustomerID: c.CustomerID,
		Region:     c.Region,
		Tier:       c.Tier,
		Amount:     c.Amount,
		Attempts:   c.Received.Attempt,
		Reason:     reason,
		At:         time.Now().UTC(),
	})
	if err != nil {
		return fmt.Errorf("announce payment %s: %w", c.PaymentID, err)
	}
	event.CorrelationID = c.OrderID
	changed, err := d.ledger.Settle(ctx, Settlement{
		Received:  c.Received,
		PaymentID: c.PaymentID,
		Outcome:   outcome,
		Reason:    reason,
		Event:     event,
		Route:     contract.PaymentRoute(c.OrderID),
	})
	if err != nil {
		return fmt.Errorf("settle payment %s as %s: %w", c.PaymentID, outcome, err)
	}
	if !changed {
		d.logKnown(c, outcome)
		return nil
	}
	d.log.Info("payment "+string(outcome), append(c.fields(), zap.String("reason", reason))...)
	return nil
}

func (d *Desk) logKnown(c Command, state State) {
	d.log.Info("nothing to do, payment is settled already", append(c.fields(), zap.String("state", string(state)))...)
}

func (c Command) fields() []zap.Field {
	return []zap.Field{
		zap.String("payment_id", c.PaymentID),
		zap.String("order_id", c.OrderID),
		zap.String("message_id", c.Received.MessageID),
		zap.Int("attempt", c.Received.Attempt),
	}
}
