package charge

import (
	"context"
	"fmt"

	"example.com/orderflow/contract"
)

// Refund gives the whole amount back and announces payment.refunded.
//
// The charge may still be in progress, since the two commands are in different queues. For a
// payment that is unknown or pending the error is [ErrNotCaptured], and the refund should be
// tried again. For a declined one it is [ErrDeclined], and should not.
//
// Further errors: [ErrMismatch], and those of the provider and the ledger.
func (s *Service) Refund(ctx context.Context, c Command) error {
	if seen, err := s.seen(ctx, c); seen || err != nil {
		return err
	}
	known, err := s.refundable(ctx, c)
	if err != nil {
		return fmt.Errorf("refund payment %s: %w", c.PaymentID, err)
	}
	if known {
		s.logKnown(c, Refunded)
		return nil
	}
	if err := s.provider.Refund(ctx, c); err != nil {
		return fmt.Errorf("refund payment %s: %w", c.PaymentID, err)
	}
	return s.settle(ctx, c, Refunded, contract.PaymentRefunded, "")
}

// refundable returns an error if the payment cannot be refunded. known says that it was
// refunded already.
func (s *Service) refundable(ctx context.Context, c Command) (known bool, err error) {
	p, found, err := s.ledger.Find(ctx, c.PaymentID)
	if err != nil {
		return false, err
	}
	if !found {
		return false, ErrNotCaptured
	}
	if err := p.check(c); err != nil {
		return false, err
	}
	next, err := p.State.Next(Refunded)
	return next == p.State, err
}
