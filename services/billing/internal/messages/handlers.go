// Package messages handles what billing consumes, the commands that orders sends.
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

// Handlers carries out commands, and turns what became of them into the verdict on the
// message.
type Handlers struct{ Service *charge.Service }

// Commands handles both queues, of charge.v1 and of refund.v1.
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

// verdict marks the errors for which no retry helps, and those of a database that is
// away. The provider's are marked by its client. All others are tried again by the
// broker, after a delay that grows.
func verdict(err error) error {
	for _, permanent := range []error{charge.ErrMismatch, charge.ErrDeclined} {
		if errors.Is(err, permanent) {
			return messaging.Permanent(err)
		}
	}
	return inbox.Verdict(err)
}

// refundCommand is what billing reads of refund.v1, and of charge.v1.
type refundCommand struct {
	PaymentID string         `json:"payment_id"`
	OrderID   string         `json:"order_id"`
	Amount    contract.Money `json:"amount"`
	// Passed on without a check.
	CustomerID string `json:"customer_id"`
	Region     string `json:"region"`
	Tier       string `json:"tier"`
}

// Validate names the field that is wrong.
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

// chargeCommand says how the customer pays, too.
type chargeCommand struct {
	refundCommand
	PaymentToken string `json:"payment_token"`
}

// Validate names the field that is wrong.
func (c chargeCommand) Validate() error {
	if c.PaymentToken == "" {
		return errors.New("payment_token: required")
	}
	return c.refundCommand.Validate()
}
