package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/orders/internal/order"
)

// callTimeout is how long a customer waits for pricing. It travels with the call.
const callTimeout = 2 * time.Second

// Pricing asks pricing-rpc.
type Pricing struct{ Caller *messaging.Caller }

// SKUs asks for the catalogue.
func (p Pricing) SKUs(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := messaging.Call(ctx, p.Caller, contract.CatalogueProcedure, contract.CatalogueRequest{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPricingAway, err)
	}
	skus := make([]string, len(reply.Prices))
	for i, price := range reply.Prices {
		skus[i] = price.SKU
	}
	return skus, nil
}

// Quote asks for the price of the items. What pricing finds wrong with them is an
// [order.Invalid]. An answer that is no quote for them is an error of another kind than
// [ErrPricingAway]: asking again does not help.
func (p Pricing) Quote(ctx context.Context, items []order.Item) (contract.Money, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := contract.QuoteRequest{}
	for _, item := range items {
		request.Items = append(request.Items, contract.OrderItem(item))
	}
	reply, err := messaging.Call(ctx, p.Caller, contract.QuoteProcedure, request)
	var remote *messaging.RemoteError
	switch {
	case err == nil:
		if err := reply.Check(request.Items); err != nil {
			return contract.Money{}, fmt.Errorf("a quote that cannot be: %w", err)
		}
		return reply.Total, nil
	case errors.As(err, &remote) && (remote.Code == contract.CodeUnknownSKU || remote.Code == contract.CodeInvalidRequest):
		if len(remote.Fields) == 0 {
			return contract.Money{}, order.Invalid{"items": remote.Message}
		}
		return contract.Money{}, order.Invalid(remote.Fields)
	default:
		return contract.Money{}, fmt.Errorf("%w: %w", ErrPricingAway, err)
	}
}
