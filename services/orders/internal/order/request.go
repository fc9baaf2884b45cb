package order

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"example.com/orderflow/contract"
)

// maxText is the maximal length of a text in a request, in bytes.
const maxText = 128

// ValidID says whether a text can be an order's id, which is a UUID. Its other forms, with
// braces or as a URN, are not valid.
func ValidID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil && len(id) == 36
}

// Invalid names the wrong fields of a request, each with the reason.
type Invalid map[string]string

func (e Invalid) Error() string { return fmt.Sprintf("invalid fields: %v", map[string]string(e)) }

// Request is what a customer asks for.
type Request struct {
	CustomerID   string `json:"customer_id"`
	Region       string `json:"region"`
	Tier         string `json:"tier"`
	PaymentToken string `json:"payment_token"`
	Items        []Item `json:"items"`
}

// Validate returns nil, or an [Invalid] that names every wrong field. Later services refuse
// nothing that is valid here: the common rules are in package contract.
func (r Request) Validate() error {
	invalid := Invalid{}
	if !contract.ValidCustomerID(r.CustomerID) {
		invalid["customer_id"] = "must be 1 to 64 letters, digits, dashes, underscores or single dots, " +
			"begin with a letter or digit and not end with a dot"
	}
	if !slices.Contains(contract.Regions, r.Region) {
		invalid["region"] = "must be eu, us or apac"
	}
	if !slices.Contains(contract.Tiers, r.Tier) {
		invalid["tier"] = "must be standard or express"
	}
	if !isText(r.PaymentToken) {
		invalid["payment_token"] = wantText
	}
	if len(r.Items) == 0 || len(r.Items) > contract.MaxItems {
		invalid["items"] = fmt.Sprintf("must be 1 to %d", contract.MaxItems)
	}
	seen := map[string]bool{}
	for i, item := range r.Items {
		field := fmt.Sprintf("items[%d].", i)
		switch {
		case !isText(item.SKU):
			invalid[field+"sku"] = wantText
		case seen[item.SKU]:
			invalid[field+"sku"] = "is in the order more than once"
		}
		seen[item.SKU] = true
		if item.Quantity < 1 || item.Quantity > contract.MaxQuantity {
			invalid[field+"quantity"] = fmt.Sprintf("must be 1 to %d", contract.MaxQuantity)
		}
	}
	if len(invalid) > 0 {
		return invalid
	}
	return nil
}

var wantText = fmt.Sprintf("must have 1 to %d bytes, and no control characters", maxText)

// isText refuses control characters. PostgreSQL cannot store NUL, for example.
func isText(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
}

// CheckSKUs returns nil, or an [Invalid] that names the items with an unknown SKU.
func (r Request) CheckSKUs(known func(sku string) bool) error {
	invalid := Invalid{}
	for i, item := range r.Items {
		if !known(item.SKU) {
			invalid[fmt.Sprintf("items[%d].sku", i)] = "unknown"
		}
	}
	if len(invalid) > 0 {
		return invalid
	}
	return nil
}

// Hash is stored with an idempotency key. Requests with different hashes are different.
func (r Request) Hash() ([]byte, error) {
	encoded, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("hash a request: %w", err)
	}
	sum := sha256.Sum256(encoded)
	return sum[:], nil
}
