// Package pricing has the client of pricing-rpc, and a cache of the SKUs that are sold.
package pricing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/orders/internal/order"
)

// callTimeout is how long a customer waits for pricing-rpc. The call carries it as its
// deadline.
const callTimeout = 2 * time.Second

// Client calls pricing-rpc. It is an [order.Pricing]. Safe for concurrent use.
type Client struct {
	*Catalogue
	caller *messaging.Caller
}

// NewClient makes a client with an empty cache.
func NewClient(caller *messaging.Caller) *Client {
	c := &Client{caller: caller}
	c.Catalogue = NewCatalogue(c.skus)
	return c
}

// skus fetches the SKUs of the catalogue.
func (c *Client) skus(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := messaging.Call(ctx, c.caller, contract.PricingCatalogueProcedure, contract.PricingCatalogueBody{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", order.ErrPricingAway, err)
	}
	skus := make([]string, len(reply.Prices))
	for i, price := range reply.Prices {
		skus[i] = price.SKU
	}
	return skus, nil
}

// Quote returns the price of the items. If pricing-rpc refuses the items, the error is an
// [order.Invalid]. If its answer is not a possible quote for them, the error is not
// [order.ErrPricingAway], since asking again does not help.
func (c *Client) Quote(ctx context.Context, items []order.Item) (contract.Money, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := contract.PricingQuoteBody{}
	for _, item := range items {
		request.Items = append(request.Items, contract.OrderItem(item))
	}
	reply, err := messaging.Call(ctx, c.caller, contract.PricingQuoteProcedure, request)
	var remote *messaging.RemoteError
	switch {
	case err == nil:
		if err := reply.Check(request.Items); err != nil {
			return contract.Money{}, fmt.Errorf("not a possible quote: %w", err)
		}
		return reply.Total, nil
	case errors.As(err, &remote) && (remote.Code == contract.CodeUnknownSKU || remote.Code == contract.CodeInvalidRequest):
		if len(remote.Fields) == 0 {
			return contract.Money{}, order.Invalid{"items": remote.Message}
		}
		return contract.Money{}, order.Invalid(remote.Fields)
	default:
		return contract.Money{}, fmt.Errorf("%w: %w", order.ErrPricingAway, err)
	}
}
