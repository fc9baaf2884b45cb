// Package messages handles what pricing-rpc consumes: it answers calls.
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

// lookupTimeout is how long the database may take. Callers wait longer: they hear
// "unavailable", and not nothing.
const lookupTimeout = time.Second

// Handlers answers calls from the store.
type Handlers struct {
	Store     *postgres.Store
	Publisher *messaging.Publisher // of replies
	Log       *zap.Logger
}

// Calls handles the queue of calls: there is one answer to each, and each is acknowledged.
func (h *Handlers) Calls() messaging.Handler {
	mux := messaging.NewMux("") // a call is worth nothing later: nobody replays it
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

// remote is the one place where errors become codes. Any other error is "unavailable".
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
