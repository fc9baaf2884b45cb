// Package charge is what billing is for: it takes the money for an order once,
// gives it back once, and says so. The ledger remembers, the payment provider acts.
package charge

import (
	"errors"
	"fmt"

	"example.com/orderflow/contract"
)

// Errors that decide whether trying again makes sense; see also those of [Provider].
var (
	// ErrMismatch says that a payment id came back with another order or amount.
	ErrMismatch = errors.New("the payment id belongs to another order or amount")
	// ErrNotCaptured says that there is nothing to refund yet: the charge may
	// still be under way.
	ErrNotCaptured = errors.New("the payment is not captured")
	// ErrDeclined says that there is nothing to refund and never will be.
	ErrDeclined = errors.New("the payment was declined")
)

// State is where a payment stands. All but Pending are announced when they are
// reached, once each.
//
//	pending --> captured --> refunded
//	   |           ^
//	   +------> declined
//
// What was declined is captured when a provider corrects itself, or says no to one of
// two calls and yes to the other. Whoever hears of both has the money given back.
type State string

// The states of a payment.
const (
	// Pending: the intent is written, the provider may or may not have been asked.
	Pending State = "pending"
	// Captured: the money is ours.
	Captured State = "captured"
	// Declined: the provider said no.
	Declined State = "declined"
	// Refunded: the money was ours, and is the customer's again.
	Refunded State = "refunded"
)

// Next is the state after an outcome (Captured, Declined or Refunded). It is the
// same state when the outcome changes nothing: it is known already, or overtaken.
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

// Payment is what the ledger knows of one payment.
type Payment struct {
	ID      string
	OrderID string
	Amount  contract.Money
	State   State
}

// check says whether a command is about this very payment.
func (p Payment) check(c Command) error {
	if p.OrderID != c.OrderID || p.Amount != c.Amount {
		return fmt.Errorf("%w: asked for %d %s of order %s", ErrMismatch, c.Amount.AmountMinor, c.Amount.Currency, c.OrderID)
	}
	return nil
}
