package order

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"example.com/orderflow/contract"
)

// maxText bounds a text of a request, in bytes.
const maxText = 128

// Errors of this package.
var (
	// ErrNotFound says that there is no such order.
	ErrNotFound = errors.New("there is no such order")
	// ErrClosed says that an order has ended and cannot be cancelled.
	ErrClosed = errors.New("the order has ended and cannot be cancelled")
	// ErrKeyReused says that an idempotency key came with another body.
	ErrKeyReused = errors.New("the idempotency key was used for another order")
)

// ValidID says whether a text can be an order's id. Other spellings of a UUID,
// with braces or as a URN, are none.
func ValidID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil && len(id) == 36
}

// Invalid names the fields of a request that cannot be, each with the reason.
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

// Validate gives an [Invalid] that names every wrong field, or nil. What passes, no later
// service refuses: the rules that others rely on are the contract's.
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
			invalid[field+"sku"] = "stands in the order twice"
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

// isText keeps out what neither a database nor a log can take, such as NUL.
func isText(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
}

// CheckSKUs gives an [Invalid] that names the items whose SKU is not known.
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

// Place makes the order of a request at the quoted total.
func Place(r Request, total contract.Money, at time.Time) (*Order, error) {
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

// Cancel applies the customer's wish. [ErrClosed] is for an order that has ended;
// a second wish while the refund runs changes nothing and is no error.
func (o *Order) Cancel(at time.Time) (Effect, error) {
	effect := o.Apply(CustomerCancels, "cancelled by the customer", at)
	if effect == Nothing && !o.RefundOpen {
		return Nothing, ErrClosed
	}
	return effect, nil
}
