// Package messages handles the commands that billing consumes.
package messages

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/services/billing/internal/charge"
)

// Handlers carries out commands, and turns the result into the verdict on the message.
type Handlers struct{ Service *charge.Service }

// Commands handles both queues, that of charge.v1 and that of refund.v1.
func (h *Handlers) Commands() messaging.Handler {
	mux := messaging.NewMux(contract.Operator)
	mux.Handle(contract.Charge, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, body chargeCommand) error {
		c := body.command(d)
		c.Token = body.PaymentToken
		return verdict(h.Service.Charge(ctx, c))
	}))
	mux.Handle(contract.Refund, messaging.JSON(func(ctx context.Context, d *messaging.Delivery, body refundCommand) error {
		return verdict(h.Service.Refund(ctx, body.command(d)))
	}))
	return mux.Handler()
}

// verdict marks errors for which trying again does not help, and errors of an unavailable
// database. Errors of the provider are marked by its client. After other errors, the broker
// delivers the command again, with growing delays.
func verdict(err error) error {
	for _, permanent := range []error{charge.ErrMismatch, charge.ErrDeclined} {
		if errors.Is(err, permanent) {
			return messaging.Permanent(err)
		}
	}
	return inbox.Verdict(err)
}

// refundCommand has the fields of refund.v1 that billing uses. charge.v1 has them too.
type refundCommand struct {
	PaymentID string         `json:"payment_id"`
	OrderID   string         `json:"order_id"`
	Amount    contract.Money `json:"amount"`
	// Copied into events without a check.
	CustomerID string `json:"customer_id"`
	Region     string `json:"region"`
	Tier       string `json:"tier"`
}

// Validate checks the fields. The error names the wrong one.
func (c refundCommand) Validate() error {
	switch {
	case c.PaymentID == "":
		return errors.New("payment_id: required")
	case c.OrderID == "":
		return errors.New("order_id: required")
	}
	if err := c.Amount.Validate(); err != nil {
		return fmt.Errorf("amount.%w", err)
	}
	return nil
}

func (c refundCommand) command(d *messaging.Delivery) charge.Command {
	return charge.Command{
		Received:   charge.Received{Queue: d.Queue, MessageID: d.ID, Attempt: d.Attempt},
		PaymentID:  c.PaymentID,
		OrderID:    c.OrderID,
		Amount:     c.Amount,
		CustomerID: c.CustomerID,
		Region:     c.Region,
		Tier:       c.Tier,
	}
}

// chargeCommand has the fields of charge.v1 that billing uses.
type chargeCommand struct {
	refundCommand
	PaymentToken string `json:"payment_token"`
}

// Validate checks the fields. The error names the wrong one.
func (c chargeCommand) Validate() error {
	if c.PaymentToken == "" {
		return errors.New("payment_token: required")
	}
	return c.refundCommand.Validate()
}
