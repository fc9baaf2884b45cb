package charge

import (
	"context"
	"fmt"

	"example.com/orderflow/contract"
)

// Refund gives the whole amount back and announces payment.refunded.
//
// The charge may still be under way, since the two commands wait in different
// queues: a payment that is unknown or pending is [ErrNotCaptured], which is worth
// another try. A declined one is [ErrDeclined], which is not.
//
// Further errors: [ErrMismatch], and those of the provider and the ledger.
func (d *Desk) Refund(ctx context.Context, c Command) error {
	if seen, err := d.seen(ctx, c); seen || err != nil {
		return err
	}
	known, err := d.refundable(ctx, c)
	if err != nil {
		return fmt.Errorf("refund payment %s: %w", c.PaymentID, err)
	}
	if known {
		d.logKnown(c, Refunded)
		return nil
	}
	if err := d.provider.Refund(ctx, c); err != nil {
		return fmt.Errorf("refund payment %s: %w", c.PaymentID, err)
	}
	return d.settle(ctx, c, Refunded, contract.PaymentRefunded, "")
}

// refundable says whether the refund is known already, or why it cannot be.
func (d *Desk) refundable(ctx context.Context, c Command) (known bool, err error) {
	p, found, err := d.ledger.Find(ctx, c.PaymentID)
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
