// Package pricing has the rules of prices and quotes. It has no code for the database, the
// broker or HTTP.
package pricing

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"example.com/orderflow/contract"
)

// Limits.
const (
	MaxAmount = 100_000_000 // minor units: a million euros
	maxName   = 100
)

// Invalid names the wrong fields, each with the reason.
type Invalid map[string]string

func (e Invalid) Error() string { return fmt.Sprintf("invalid fields: %v", map[string]string(e)) }

// UnknownSKUs names the items whose SKU is not sold.
type UnknownSKUs map[string]string

func (e UnknownSKUs) Error() string { return fmt.Sprintf("unknown SKUs: %v", map[string]string(e)) }

// Price is one entry of the catalogue.
type Price struct {
	SKU     string         `json:"sku"`
	Name    string         `json:"name"`
	Price   contract.Money `json:"price"`
	Version int64          `json:"version"`
}

var sku = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// Validate returns nil, or an [Invalid] that names every wrong field.
func (p Price) Validate() error {
	invalid := Invalid{}
	if !sku.MatchString(p.SKU) {
		invalid["sku"] = "must be 1 to 64 lower-case letters, digits and dashes, and not begin with a dash"
	}
	if p.Name == "" || len(p.Name) > maxName || strings.ContainsFunc(p.Name, unicode.IsControl) {
		invalid["name"] = fmt.Sprintf("must have 1 to %d bytes, and no control characters", maxName)
	}
	if p.Price.AmountMinor < 1 || p.Price.AmountMinor > MaxAmount {
		invalid["price.amount_minor"] = fmt.Sprintf("must be 1 to %d", MaxAmount)
	}
	if p.Price.Currency != contract.Currency {
		invalid["price.currency"] = "must be " + contract.Currency
	}
	if len(invalid) > 0 {
		return invalid
	}
	return nil
}

// SKUs returns the valid SKUs of the items, each once. It returns none if there are too many
// items for a quote, so that the database is not asked for thousands.
func SKUs(items []contract.OrderItem) []string {
	if len(items) > contract.MaxItems {
		return nil
	}
	var list []string
	for _, item := range items {
		if sku.MatchString(item.SKU) && !slices.Contains(list, item.SKU) {
			list = append(list, item.SKU)
		}
	}
	return list
}

// Catalogue has prices of one version: all of them, or only those for a quote.
type Catalogue struct {
	Prices  []Price
	Version int64
}

// Quote prices the items. Errors name the fields of items: [UnknownSKUs] if only SKUs are
// unknown, else [Invalid] with everything that is wrong.
func (c Catalogue) Quote(items []contract.OrderItem) (contract.PricingQuoteReplyBody, error) {
	quote := contract.PricingQuoteReplyBody{CatalogueVersion: c.Version, Total: contract.Money{Currency: contract.Currency}}
	if len(items) == 0 || len(items) > contract.MaxItems {
		return quote, Invalid{"items": fmt.Sprintf("must be 1 to %d", contract.MaxItems)}
	}
	prices := map[string]Price{}
	for _, p := range c.Prices {
		prices[p.SKU] = p
	}
	invalid, unknown := Invalid{}, UnknownSKUs{}
	for i, item := range items {
		p, sold := prices[item.SKU]
		inRange := item.Quantity >= 1 && item.Quantity <= contract.MaxQuantity
		if !sold {
			unknown[fmt.Sprintf("items[%d].sku", i)] = "unknown"
		}
		if !inRange {
			invalid[fmt.Sprintf("items[%d].quantity", i)] = fmt.Sprintf("must be 1 to %d", contract.MaxQuantity)
		}
		switch {
		case !sold || !inRange:
		case p.Price.AmountMinor > (math.MaxInt64-quote.Total.AmountMinor)/int64(item.Quantity):
			invalid[fmt.Sprintf("items[%d]", i)] = "the total is too large"
		default:
			total := p.Price.AmountMinor * int64(item.Quantity)
			quote.Total.AmountMinor += total
			quote.Lines = append(quote.Lines, contract.QuoteLine{
				SKU: item.SKU, Quantity: item.Quantity, Unit: p.Price, Total: contract.Money{AmountMinor: total, Currency: contract.Currency},
			})
		}
	}
	switch {
	case len(invalid) > 0:
		maps.Copy(invalid, unknown)
		return quote, invalid
	case len(unknown) > 0:
		return quote, unknown
	default:
		return quote, nil
	}
}
