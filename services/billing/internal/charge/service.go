package charge

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// Received says in which delivery a command came.
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
	// Customer, region and tier are copied into the event that announces the outcome.
	CustomerID, Region, Tier string
	// Token is how the customer pays; a refund has none. It goes to the provider
	// only: not into the ledger, a log or an error.
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

// Ledger stores payments. Package postgres implements it.
type Ledger interface {
	// Seen says whether the message was settled.
	Seen(ctx context.Context, r Received) (bool, error)
	// Intend stores the payment as pending if its id is new, and returns what the ledger
	// has under the id.
	Intend(ctx context.Context, p Payment) (Payment, error)
	// Find returns a payment; found is false if the id is unknown.
	Find(ctx context.Context, paymentID string) (p Payment, found bool, err error)
	// Settle sets the payment to [State.Next] of the outcome, and stores the event that
	// announces it. changed is false if there was nothing to do: the message was settled
	// before, or the outcome changes nothing.
	Settle(ctx context.Context, s Settlement) (changed bool, err error)
}

// Service carries out the commands to charge and to refund. Safe for concurrent use. The
// same command may come more than once, also at the same time.
type Service struct {
	ledger   Ledger
	provider *Provider
	log      *zap.Logger
}

// NewService makes a service.
func NewService(ledger Ledger, provider *Provider, log *zap.Logger) *Service {
	return &Service{ledger, provider, log}
}

// seen says whether a message with this id was settled, whatever its body says now: another
// body under the same id must not reach the provider, since its outcome could not be stored.
func (s *Service) seen(ctx context.Context, c Command) (bool, error) {
	seen, err := s.ledger.Seen(ctx, c.Received)
	if err != nil {
		return false, fmt.Errorf("take payment %s: %w", c.PaymentID, err)
	}
	if seen {
		s.log.Info("nothing to do, message is settled already", c.fields()...)
	}
	return seen, nil
}

// settle stores the outcome and the event that announces it.
func (s *Service) settle(ctx context.Context, c Command, outcome State, kind messaging.MessageType, reason string) error {
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
	changed, err := s.ledger.Settle(ctx, Settlement{
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
		s.logKnown(c, outcome)
		return nil
	}
	s.log.Info("payment "+string(outcome), append(c.fields(), zap.String("reason", reason))...)
	return nil
}

func (s *Service) logKnown(c Command, state State) {
	s.log.Info("nothing to do, payment is settled already", append(c.fields(), zap.String("state", string(state)))...)
}

func (c Command) fields() []zap.Field {
	return []zap.Field{
		zap.String("payment_id", c.PaymentID),
		zap.String("order_id", c.OrderID),
		zap.String("message_id", c.Received.MessageID),
		zap.Int("attempt", c.Received.Attempt),
	}
}
