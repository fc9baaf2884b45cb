// Package charge has the use cases of billing: it charges an order once, refunds it once, and
// announces both. The payment provider moves the money, the ledger stores what happened.
package charge

import (
	"errors"
	"fmt"

	"example.com/orderflow/contract"
)

// Errors that decide whether trying again makes sense; see also those of [Provider].
var (
	// ErrMismatch says that a payment id came again with another order or amount.
	ErrMismatch = errors.New("the payment id belongs to another order or amount")
	// ErrNotCaptured says that there is nothing to refund yet: the charge may still be in
	// progress.
	ErrNotCaptured = errors.New("the payment is not captured")
	// ErrDeclined says that there is nothing to refund, since the payment was declined.
	ErrDeclined = errors.New("the payment was declined")
)

// State is the state of a payment. Each state but Pending is announced once, when the payment
// reaches it.
//
//	pending --> captured --> refunded
//	   |           ^
//	   +------> declined
//
// A declined payment can be captured later, when the provider corrects itself, or declines one
// of two calls and accepts the other. Orders gets both events and commands a refund.
type State string

// The states of a payment.
const (
	// Pending: the intent is stored, the provider may or may not have been called.
	Pending State = "pending"
	// Captured: the provider has taken the money.
	Captured State = "captured"
	// Declined: the provider refused the payment.
	Declined State = "declined"
	// Refunded: the provider has taken the money and given it back.
	Refunded State = "refunded"
)

// Next is the state after an outcome (Captured, Declined or Refunded). It is the same state if
// the outcome changes nothing: because it is known already, or came too late.
//
// Errors: [ErrNotCaptured], [ErrDeclined].
func (s State) Next(outcome State) (State, error) {
	switch {
	case s == Pending && outcome == Refunded:
		return s, ErrNotCaptured
	case s == Declined && outcome == Refunded:
		return s, ErrDeclined
	case s == Pending, s == Declined && outcome == Captured, s == Captured && outcome == Refunded:
		return outcome, nil
	default:
		return s, nil
	}
}

// Payment is a payment in the ledger.
type Payment struct {
	ID      string
	OrderID string
	Amount  contract.Money
	State   State
}

// check returns [ErrMismatch] if a command has another order or amount than the payment.
func (p Payment) check(c Command) error {
	if p.OrderID != c.OrderID || p.Amount != c.Amount {
		return fmt.Errorf("%w: asked for %d %s of order %s", ErrMismatch, c.Amount.AmountMinor, c.Amount.Currency, c.OrderID)
	}
	return nil
}
