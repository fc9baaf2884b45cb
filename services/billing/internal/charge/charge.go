package charge

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/contract"
)

// Charge takes the money and announces payment.captured or payment.declined.
//
// The provider is called between two transactions, never inside one. The first commits the
// intent, so that a payment is known also after a crash; the second commits the outcome. After
// a crash in between, the call is repeated with the same idempotency key.
//
// Errors: [ErrMismatch], and those of the provider and the ledger.
func (s *Service) Charge(ctx context.Context, c Command) error {
	if seen, err := s.seen(ctx, c); seen || err != nil {
		return err
	}
	p, err := s.ledger.Intend(ctx, Payment{ID: c.PaymentID, OrderID: c.OrderID, Amount: c.Amount})
	if err != nil {
		return fmt.Errorf("charge payment %s: %w", c.PaymentID, err)
	}
	if err := p.check(c); err != nil {
		return fmt.Errorf("charge payment %s: %w", c.PaymentID, err)
	}
	if p.State != Pending {
		s.logKnown(c, p.State)
		return nil
	}
	var declined *DeclinedError
	switch err := s.provider.Capture(ctx, c); {
	case err == nil:
		return s.settle(ctx, c, Captured, contract.PaymentCaptured, "")
	case errors.As(err, &declined):
		return s.settle(ctx, c, Declined, contract.PaymentDeclined, declined.Reason)
	default:
		return fmt.Errorf("charge payment %s: %w", c.PaymentID, err)
	}
}
