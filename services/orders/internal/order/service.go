package order

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
)

// Errors of this package, beside [Invalid].
var (
	// ErrNotFound says that there is no such order.
	ErrNotFound = errors.New("there is no such order")
	// ErrClosed says that an order has ended and cannot be cancelled.
	ErrClosed = errors.New("the order has ended and cannot be cancelled")
	// ErrKeyReused says that an idempotency key came with another body.
	ErrKeyReused = errors.New("the idempotency key was used for another order")
	// ErrPricingAway says that pricing-rpc gave no price, and that trying again may help.
	ErrPricingAway = errors.New("pricing is unavailable")
	// ErrBusy says that too many messages wait in the outbox.
	ErrBusy = errors.New("too many messages wait to be published")
)

// Store keeps orders. Package postgres implements it.
type Store interface {
	// FindByKey returns the order that was placed with a customer's idempotency key: nil if
	// there is none, [ErrKeyReused] if it was another request.
	FindByKey(ctx context.Context, customerID, key string, hash []byte) (*Order, error)
	// Place stores a new order and its messages in one transaction. If another request of
	// the customer has used the key in the meantime, it stores nothing and returns that
	// request's order, with isNew false.
	Place(ctx context.Context, o *Order, messages []Outgoing, key string, hash []byte) (stored *Order, isNew bool, err error)
	// Change locks an order, calls decide, which changes it, and stores the result with the
	// messages that the effect causes, in one transaction. An error of decide rolls it back.
	Change(ctx context.Context, id string, decide func(o *Order) (Effect, error)) (*Order, Effect, error)
}

// Pricing knows what is sold and what it costs. Package pricing implements it.
type Pricing interface {
	// Knows returns a function that says whether a SKU is sold, or [ErrPricingAway].
	Knows(ctx context.Context) (func(sku string) bool, error)
	// Quote returns the total price of items. Errors: [Invalid], which names the item's
	// field; [ErrPricingAway]; others, after which asking again does not help.
	Quote(ctx context.Context, items []Item) (contract.Money, error)
}

// Service places and cancels orders for customers. Safe for concurrent use.
type Service struct {
	store   Store
	pricing Pricing
	waiting func(ctx context.Context) (int64, error)
	log     *zap.Logger
}

// NewService makes a service. waiting returns how many messages wait in the outbox.
func NewService(store Store, pricing Pricing, waiting func(ctx context.Context) (int64, error), log *zap.Logger) *Service {
	return &Service{store, pricing, waiting, log}
}
