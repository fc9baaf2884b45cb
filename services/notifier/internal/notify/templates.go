package notify

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// Names of the templates. They are parts of dedupe keys.
const (
	TemplatePaid          = "order-paid"
	TemplateDeclined      = "order-declined"
	TemplateCancelled     = "order-cancelled"
	TemplatePlaced        = "order-placed"
	TemplateOrderRefunded = "order-refunded"
	TemplateReceipt       = "receipt"
	TemplateRefundReceipt = "refund-receipt"
)

// ErrNoTemplate says that a notification names a template that does not exist.
var ErrNoTemplate = errors.New("no such template")

type text struct{ subject, body *template.Template }

var templates = map[string]text{
	TemplatePaid:          parse("Order {{.order_id}} is paid", "Thank you. Your order {{.order_id}} over {{.amount}} is paid and on its way."),
	TemplateDeclined:      parse("Order {{.order_id}} was declined", "Your payment of {{.amount}} for order {{.order_id}} was declined{{with .reason}}: {{.}}{{end}}."),
	TemplateCancelled:     parse("Order {{.order_id}} is cancelled", "Your order {{.order_id}} over {{.amount}} is cancelled{{with .reason}}: {{.}}{{end}}."),
	TemplatePlaced:        parse("Order {{.order_id}} is placed", "Order {{.order_id}} over {{.amount}} is placed."),
	TemplateOrderRefunded: parse("Order {{.order_id}} is refunded", "Order {{.order_id}} over {{.amount}} is refunded."),
	TemplateReceipt:       parse("Receipt for order {{.order_id}}", "We have received {{.amount}} for order {{.order_id}}. Payment {{.payment_id}}."),
	TemplateRefundReceipt: parse("Refund for order {{.order_id}}", "We have refunded {{.amount}} for order {{.order_id}}. Payment {{.payment_id}}."),
}

func parse(subject, body string) text {
	return text{template.Must(template.New("subject").Parse(subject)), template.Must(template.New("body").Parse(body))}
}

// Render makes the subject and the body of a mail from a template.
func Render(name string, data map[string]any) (subject, body string, err error) {
	t, ok := templates[name]
	if !ok {
		return "", "", fmt.Errorf("%w: %q", ErrNoTemplate, name)
	}
	var s, b strings.Builder
	if err := t.subject.Execute(&s, data); err != nil {
		return "", "", fmt.Errorf("render %s: %w", name, err)
	}
	if err := t.body.Execute(&b, data); err != nil {
		return "", "", fmt.Errorf("render %s: %w", name, err)
	}
	// A subject must be one line, also if the data has line ends.
	return strings.Join(strings.Fields(s.String()), " "), b.String(), nil
}
