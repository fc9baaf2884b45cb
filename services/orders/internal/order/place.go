package order

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
)

// maxWaiting is how many messages may wait in the outbox. Above it, new orders are refused.
const maxWaiting = 10_000

// Place checks a request, gets its price, and stores the order with its messages. For a
// request that was placed before with the same idempotency key, it returns that order, with
// isNew false. Without a key (the empty string), each request makes an order.
//
// Errors: [Invalid], [ErrKeyReused], [ErrBusy], [ErrPricingAway], and those of the store.
func (s *Service) Place(ctx context.Context, r Request, key string) (o *Order, isNew bool, err error) {
	if err := r.Validate(); err != nil {
		return nil, false, err
	}
	hash, err := r.Hash()
	if err != nil {
		return nil, false, err
	}
	if key != "" { // a repeated request is answered also while new ones are refused
		known, err := s.store.FindByKey(ctx, r.CustomerID, key, hash)
		if known != nil || err != nil {
			return known, false, err
		}
	}
	waiting, err := s.waiting(ctx)
	if err != nil {
		return nil, false, err
	}
	if waiting > maxWaiting {
		return nil, false, ErrBusy
	}
	total, err := s.quote(ctx, r)
	if err != nil {
		return nil, false, err
	}
	o, err = New(r, total, time.Now())
	if err != nil {
		return nil, false, err
	}
	messages, err := o.PlacedMessages(r.PaymentToken)
	if err != nil {
		return nil, false, err
	}
	o, isNew, err = s.store.Place(ctx, o, messages, key, hash)
	if isNew {
		s.log.Info("order placed", zap.String("order_id", o.ID), zap.String("tier", o.Tier), zap.String("region", o.Region))
	}
	return o, isNew, err
}

// quote checks that the items of a request are sold, and returns their price.
func (s *Service) quote(ctx context.Context, r Request) (contract.Money, error) {
	knows, err := s.pricing.Knows(ctx)
	if err != nil {
		return contract.Money{}, err
	}
	if err := r.CheckSKUs(knows); err != nil {
		return contract.Money{}, err
	}
	total, err := s.pricing.Quote(ctx, r.Items)
	if err != nil {
		return contract.Money{}, err
	}
	if err := total.Validate(); err != nil { // billing would refuse to charge it
		return contract.Money{}, fmt.Errorf("not a possible quote: total.%w", err)
	}
	return total, nil
}

// New makes the order of a request at the quoted total.
func New(r Request, total contract.Money, at time.Time) (*Order, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an order id: %w", err)
	}
	paymentID, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make a payment id: %w", err)
	}
	return &Order{
		ID:         id.String(),
		CustomerID: r.CustomerID,
		Region:     r.Region,
		Tier:       r.Tier,
		Status:     Placed,
		PaymentID:  paymentID.String(),
		Total:      total,
		Items:      r.Items,
		History:    []Change{{Status: Placed, At: moment(at)}},
	}, nil
}
