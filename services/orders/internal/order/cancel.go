package order

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// Cancel cancels an order, or commands the refund if it is paid. Errors: [ErrNotFound],
// [ErrClosed], and those of the store.
func (s *Service) Cancel(ctx context.Context, id string) (*Order, error) {
	o, effect, err := s.store.Change(ctx, id, func(o *Order) (Effect, error) { return o.Cancel(time.Now()) })
	if err != nil {
		return nil, err
	}
	s.log.Info("cancellation accepted", zap.String("order_id", o.ID), zap.String("effect", string(effect)))
	return o, nil
}

// Cancel applies the customer's cancellation. It returns [ErrClosed] for an order that has
// ended. A second cancellation while the refund is in progress changes nothing, without an
// error.
func (o *Order) Cancel(at time.Time) (Effect, error) {
	effect := o.Apply(CustomerCancels, "cancelled by the customer", at)
	if effect == Nothing && !o.RefundOpen {
		return Nothing, ErrClosed
	}
	return effect, nil
}
