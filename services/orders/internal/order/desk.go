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
	// ErrPricingAway says that no price could be had, and that trying again may help.
	ErrPricingAway = errors.New("pricing is away")
	// ErrBusy says that too much waits to be published.
	ErrBusy = errors.New("too many messages wait to be published")
)

// Store keeps orders. Package postgres has it.
type Store interface {
	// FindByKey gives the order that a customer's idempotency key has made; nil if there is
	// none yet, [ErrKeyReused] if the key came with another request.
	FindByKey(ctx context.Context, customerID, key string, hash []byte) (*Order, error)
	// Place stores a new order and its messages in one transaction. With a key that
	// another request of the customer has used in the meantime nothing is stored and that
	// order is given, with isNew false.
	Place(ctx context.Context, o *Order, messages []Outgoing, key string, hash []byte) (stored *Order, isNew bool, err error)
	// Change locks an order, lets decide move it, and stores the result with the messages
	// that the effect causes, in one transaction. An error of decide rolls all back.
	Change(ctx context.Context, id string, decide func(o *Order) (Effect, error)) (*Order, Effect, error)
}

// Pricing knows what is sold and what it costs. Package pricing has it.
type Pricing interface {
	// Knows gives a function that says whether a SKU is sold, or [ErrPricingAway].
	Knows(ctx context.Context) (func(sku string) bool, error)
	// Quote prices items. Errors: [Invalid], by the item's field; [ErrPricingAway]; others,
	// after which asking again does not help.
	Quote(ctx context.Context, items []Item) (contract.Money, error)
}

// Desk carries out what customers ask for. Safe for concurrent use.
type Desk struct {
	store   Store
	pricing Pricing
	waiting func(ctx context.Context) (int64, error)
	log     *zap.Logger
}

// NewDesk makes a desk. waiting gives the length of the outbox.
func NewDesk(store Store, pricing Pricing, waiting func(ctx context.Context) (int64, error), log *zap.Logger) *Desk {
	return &Desk{store, pricing, waiting, log}
}
