// Package messages answers the calls that pricing-rpc consumes.
package messages

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

// lookupTimeout is how long a database query may take. Callers wait longer than this, so they
// get the error "unavailable" instead of no reply.
const lookupTimeout = time.Second

// Handlers answers calls from the store.
type Handlers struct {
	Store     *postgres.Store
	Publisher *messaging.Publisher // sends the replies
	Log       *zap.Logger
}

// Calls handles the queue of calls. Each call is answered once and acknowledged.
func (h *Handlers) Calls() messaging.Handler {
	mux := messaging.NewMux("") // no operator: calls are not replayed, since nobody waits for the reply later
	mux.Handle(contract.PricingQuote, messaging.Serve(h.Publisher, contract.PricingQuoteProcedure, h.quote))
	mux.Handle(contract.PricingCatalogue, messaging.Serve(h.Publisher, contract.PricingCatalogueProcedure, h.catalogue))
	return newRefuser(h.Publisher, h.Log).wrap(mux.Handler())
}

func (h *Handlers) quote(ctx context.Context, d *messaging.Delivery, request contract.PricingQuoteBody) (contract.PricingQuoteReplyBody, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	catalogue, err := h.Store.Prices(ctx, pricing.SKUs(request.Items))
	if err != nil {
		return contract.PricingQuoteReplyBody{}, err
	}
	quote, err := catalogue.Quote(request.Items)
	if err != nil {
		return quote, remote(err)
	}
	h.Log.Debug("quoted", zap.String("call_id", d.CorrelationID), zap.Int("items", len(request.Items)))
	return quote, nil
}

func (h *Handlers) catalogue(ctx context.Context, _ *messaging.Delivery, _ contract.PricingCatalogueBody) (contract.PricingCatalogueReplyBody, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	catalogue, err := h.Store.Catalogue(ctx)
	if err != nil {
		return contract.PricingCatalogueReplyBody{}, err
	}
	reply := contract.PricingCatalogueReplyBody{Version: catalogue.Version, Prices: make([]contract.Price, len(catalogue.Prices))}
	for i, p := range catalogue.Prices {
		reply.Prices[i] = contract.Price(p)
	}
	return reply, nil
}

// remote turns errors into errors with a code. Any other error is answered as "unavailable".
func remote(err error) error {
	var invalid pricing.Invalid
	var unknown pricing.UnknownSKUs
	switch {
	case errors.As(err, &invalid):
		return &messaging.RemoteError{Code: contract.CodeInvalidRequest, Message: "the items cannot be priced", Fields: invalid}
	case errors.As(err, &unknown):
		return &messaging.RemoteError{Code: contract.CodeUnknownSKU, Message: "not all items are sold", Fields: unknown}
	default:
		return err
	}
}
