// Package notify has the rules which notifications are sent, their texts, and the clients that
// send them.
package notify

import (
	"errors"
	"fmt"

	"example.com/orderflow/contract"
)

// Order has the fields of an order event that the rules use.
type Order struct {
	OrderID    string         `json:"order_id"`
	CustomerID string         `json:"customer_id"`
	Tier       string         `json:"tier"`
	Total      contract.Money `json:"total"`
	Reason     string         `json:"reason"`
}

// Validate checks the fields. The error names the missing or wrong one.
func (o Order) Validate() error {
	if err := required(field{"order_id", o.OrderID}, field{"customer_id", o.CustomerID}); err != nil {
		return err
	}
	if err := checkCustomer(o.CustomerID); err != nil {
		return err
	}
	if err := o.Total.Validate(); err != nil {
		return fmt.Errorf("total.%w", err)
	}
	return nil
}

// Payment has the fields of a payment event that the rules use.
type Payment struct {
	PaymentID  string         `json:"payment_id"`
	OrderID    string         `json:"order_id"`
	CustomerID string         `json:"customer_id"`
	Tier       string         `json:"tier"`
	Amount     contract.Money `json:"amount"`
}

// Validate checks the fields. The error names the missing or wrong one.
func (p Payment) Validate() error {
	if err := required(field{"payment_id", p.PaymentID}, field{"order_id", p.OrderID}, field{"customer_id", p.CustomerID}); err != nil {
		return err
	}
	if err := checkCustomer(p.CustomerID); err != nil {
		return err
	}
	if err := p.Amount.Validate(); err != nil {
		return fmt.Errorf("amount.%w", err)
	}
	return nil
}

type field struct{ name, value string }

func required(fields ...field) error {
	for _, f := range fields {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	return nil
}

// checkCustomer refuses a customer id that makes no mail address. Orders refuses it too.
func checkCustomer(id string) error {
	if !contract.ValidCustomerID(id) {
		return errors.New("customer_id: does not make a valid mail address")
	}
	return nil
}

// Note is a notification without an address: what a customer is notified of, and by which
// channel.
type Note struct {
	Channel    string
	Urgency    string
	CustomerID string
	Template   string
	Data       map[string]any
	// DedupeKey is the same each time that a rule makes a note of the same event.
	DedupeKey string
}

// ForOrder returns the notifications of an order event: paid, declined and cancelled cause a
// mail to the customer; placed and refunded of express orders cause a webhook. Notifications
// of express orders are urgent.
func ForOrder(eventType string, o Order) []Note {
	var template string
	channel := contract.ChannelEmail
	switch eventType {
	case contract.OrderPaid.Name:
		template = TemplatePaid
	case contract.OrderDeclined.Name:
		template = TemplateDeclined
	case contract.OrderCancelled.Name:
		template = TemplateCancelled
	case contract.OrderPlaced.Name, contract.OrderRefunded.Name:
		if o.Tier != contract.TierExpress {
			return nil
		}
		channel, template = contract.ChannelWebhook, TemplatePlaced
		if eventType == contract.OrderRefunded.Name {
			template = TemplateOrderRefunded
		}
	default:
		return nil
	}
	return []Note{{
		Channel:    channel,
		Urgency:    urgency(o.Tier),
		CustomerID: o.CustomerID,
		Template:   template,
		Data:       map[string]any{"order_id": o.OrderID, "amount": Format(o.Total), "reason": o.Reason},
		DedupeKey:  template + ":" + o.OrderID,
	}}
}

// ForPayment returns the notifications of a payment event: each capture and each refund causes
// a receipt to the customer by mail. Receipts are not urgent.
func ForPayment(eventType string, p Payment) []Note {
	var template string
	switch eventType {
	case contract.PaymentCaptured.Name:
		template = TemplateReceipt
	case contract.PaymentRefunded.Name:
		template = TemplateRefundReceipt
	default:
		return nil
	}
	return []Note{{
		Channel:    contract.ChannelEmail,
		Urgency:    contract.UrgencyNormal,
		CustomerID: p.CustomerID,
		Template:   template,
		Data:       map[string]any{"order_id": p.OrderID, "payment_id": p.PaymentID, "amount": Format(p.Amount)},
		DedupeKey:  template + ":" + p.PaymentID,
	}}
}

func urgency(tier string) string {
	if tier == contract.TierExpress {
		return contract.UrgencyHigh
	}
	return contract.UrgencyNormal
}

// Format formats an amount for texts: 1999 EUR is "19.99 EUR".
func Format(m contract.Money) string {
	sign, minor := "", m.AmountMinor
	if minor < 0 {
		sign, minor = "-", -minor
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, minor/100, minor%100, m.Currency)
}
