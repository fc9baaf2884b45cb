package contract

import (
	"errors"
	"fmt"
	"math"

	"example.com/orderflow/pkg/messaging"
)

// PricingUser is the broker user of the pricing-rpc service.
const PricingUser = "pricing-rpc"

// Exchanges and queues that pricing-rpc owns.
const (
	// PricingRequests (direct) takes calls.
	PricingRequests = "pricing.requests"
	// PricesChanged (fanout) tells every instance that a price has changed.
	PricesChanged = "prices.changed"
)

// Calls that pricing-rpc answers. Only orders may call.
var (
	PricingQuote     = messaging.MessageType{Name: "pricing.quote.v1", Exchange: PricingRequests, Owner: OrdersUser}
	PricingCatalogue = messaging.MessageType{Name: "pricing.catalogue.v1", Exchange: PricingRequests, Owner: OrdersUser}
)

// Message types that pricing-rpc publishes. Replies go through the default
// exchange to the caller's direct reply-to.
var (
	PricingQuoteReply     = messaging.MessageType{Name: "pricing.quote.reply.v1", Owner: PricingUser}
	PricingCatalogueReply = messaging.MessageType{Name: "pricing.catalogue.reply.v1", Owner: PricingUser}
	PriceChanged          = messaging.MessageType{Name: "price.changed.v1", Exchange: PricesChanged, Owner: PricingUser}
)

// Procedures that can be called: the route of a call, and the types of its two messages.
var (
	PricingQuoteProcedure = messaging.Procedure[PricingQuoteBody, PricingQuoteReplyBody]{
		Route: messaging.Route{Exchange: PricingRequests, Key: "quote"}, Request: PricingQuote, Reply: PricingQuoteReply,
	}
	PricingCatalogueProcedure = messaging.Procedure[PricingCatalogueBody, PricingCatalogueReplyBody]{
		Route: messaging.Route{Exchange: PricingRequests, Key: "catalogue"}, Request: PricingCatalogue, Reply: PricingCatalogueReply,
	}
)

// PricingQuoteBody is the body of pricing.quote.v1.
type PricingQuoteBody struct {
	Items []OrderItem `json:"items"`
}

// PricingQuoteReplyBody is the body of pricing.quote.reply.v1.
type PricingQuoteReplyBody struct {
	Lines            []QuoteLine `json:"lines"`
	Total            Money       `json:"total"`
	CatalogueVersion int64       `json:"catalogue_version"`
}

// QuoteLine prices one item.
type QuoteLine struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Unit     Money  `json:"unit"`
	Total    Money  `json:"total"`
}

// Check returns an error if this is not a possible quote for the items. A quote has a line for
// each item, in the same order; each line's total is above zero and the price of a unit times
// the quantity; the sum of the lines is the total, without overflow. The caller checks a quote
// before it charges the customer.
func (q PricingQuoteReplyBody) Check(items []OrderItem) error {
	if len(q.Lines) != len(items) {
		return fmt.Errorf("lines: %d for %d items", len(q.Lines), len(items))
	}
	var sum int64
	for i, line := range q.Lines {
		if err := line.check(items[i]); err != nil {
			return fmt.Errorf("lines[%d].%w", i, err)
		}
		if line.Total.AmountMinor > math.MaxInt64-sum {
			return errors.New("lines: the sum is too large")
		}
		sum += line.Total.AmountMinor
	}
	if err := q.Total.Validate(); err != nil {
		return fmt.Errorf("total.%w", err)
	}
	if q.Total.AmountMinor != sum {
		return errors.New("total: is not the sum of the lines")
	}
	return nil
}

func (l QuoteLine) check(item OrderItem) error {
	if l.SKU != item.SKU || l.Quantity != item.Quantity || l.Quantity < 1 {
		return errors.New("sku, quantity: are not those of the item")
	}
	if err := l.Unit.Validate(); err != nil {
		return fmt.Errorf("unit.%w", err)
	}
	if err := l.Total.Validate(); err != nil {
		return fmt.Errorf("total.%w", err)
	}
	// It divides, since a product may overflow.
	if l.Total.AmountMinor%int64(l.Quantity) != 0 || l.Total.AmountMinor/int64(l.Quantity) != l.Unit.AmountMinor {
		return errors.New("total: is not the unit's price times the quantity")
	}
	return nil
}

// PricingCatalogueBody is the body of pricing.catalogue.v1.
type PricingCatalogueBody struct{}

// PricingCatalogueReplyBody is the body of pricing.catalogue.reply.v1.
type PricingCatalogueReplyBody struct {
	Prices  []Price `json:"prices"`
	Version int64   `json:"version"`
}

// Price is one entry of the catalogue.
type Price struct {
	SKU     string `json:"sku"`
	Name    string `json:"name"`
	Price   Money  `json:"price"`
	Version int64  `json:"version"`
}

// PriceChangedBody is the body of price.changed.v1.
type PriceChangedBody struct {
	SKU     string `json:"sku"`
	Price   Money  `json:"price"`
	Version int64  `json:"version"`
}

// Codes of the errors that pricing-rpc answers with, see [messaging.RemoteError].
const (
	CodeUnknownSKU     = "unknown_sku"
	CodeInvalidRequest = "invalid_request"
	CodeUnavailable    = "unavailable"
	// CodeUnknownType is for a call that this version of the server does not know.
	// CodeNotAllowed is for a call whose sender may not call.
	CodeUnknownType = "unknown_type"
	CodeNotAllowed  = "not_allowed"
)

// PricingQuoteQueue is the queue of calls: classic and durable. Its messages are transient,
// and expire when the caller stops waiting.
var PricingQuoteQueue = messaging.Queue{
	Name:      "pricing.quote",
	Type:      messaging.Classic,
	MaxLength: 10_000,
	Overflow:  messaging.DropHead,
}

// PriceListener is the queue of one instance that caches prices.
var PriceListener = messaging.Queue{Type: messaging.Classic, Exclusive: true, MaxLength: 1000, Overflow: messaging.DropHead}

func pricingTopology() messaging.Topology {
	return messaging.Topology{
		Exchanges: []messaging.Exchange{
			{Name: PricingRequests, Kind: messaging.Direct},
			{Name: PricesChanged, Kind: messaging.Fanout, Alternate: Unrouted},
		},
		Queues: []messaging.Queue{PricingQuoteQueue},
		Bindings: []messaging.Binding{
			{Source: PricingRequests, Destination: PricingQuoteQueue.Name, Key: PricingQuoteProcedure.Route.Key},
			{Source: PricingRequests, Destination: PricingQuoteQueue.Name, Key: PricingCatalogueProcedure.Route.Key},
		},
		Users: []messaging.User{service(PricingUser,
			[]string{"amq.default", PricesChanged}, []string{PricingQuoteQueue.Name})},
		Types: []messaging.MessageType{PricingQuoteReply, PricingCatalogueReply, PriceChanged},
	}
}
