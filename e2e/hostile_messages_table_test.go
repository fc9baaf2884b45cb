package e2e_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// A spoiler makes one part of a valid message bad.
type spoiler struct {
	category string
	spoil    func(m *amqp.Publishing)
	reason   string // a part of the dead letter's reason
}

// kinds has one message type for each queue with dead letters. Other types of the same queue
// are decoded in the same way.
var kinds = map[string]messaging.MessageType{
	contract.BillingCharge.Name:    contract.Charge,
	contract.BillingRefund.Name:    contract.Refund,
	contract.OrdersExpire.Name:     contract.PaymentDeadline,
	"orders.payments.0":            contract.PaymentCaptured,
	"orders.payments.1":            contract.PaymentDeclined,
	"orders.payments.2":            contract.PaymentRefunded,
	"orders.payments.3":            contract.PaymentCaptured,
	contract.NotifierOrders.Name:   contract.OrderPaid,
	contract.NotifierReceipts.Name: contract.PaymentRefunded,
	contract.NotifierEmail.Name:    contract.Notification,
	contract.NotifierWebhook.Name:  contract.Notification,
}

// categories are the kinds of bad messages; harmless ones must be handled as if valid.
var (
	categories = []string{
		"empty", "huge", "truncated", "trailing", "wrong type", "wrong version", "wrong encoding", "bad UTF-8", "deep JSON",
		"missing id", "duplicate id", "unknown currency", "negative amount", "expired", "nobody",
	}
	harmless = []string{"every header", "wrong reply-to"}
)

// notHere returns the reason why a category does not apply to a queue, empty if it does.
func notHere(queue, category string) string {
	switch isMoney := category == "unknown currency" || category == "negative amount"; {
	case isMoney && strings.HasPrefix(queue, "orders."):
		return "orders knows what an order costs, and reads no amount"
	case isMoney && (queue == contract.NotifierEmail.Name || queue == contract.NotifierWebhook.Name):
		return "an amount is a text of the template here"
	case category == "unknown currency" && queue == contract.PricingQuoteQueue.Name:
		return "pricing says what the currency is"
	case category == "missing id" && (queue == contract.NotifierEmail.Name || queue == contract.NotifierWebhook.Name):
		return "the dedupe key tells copies apart: it is sent (TestHostileHeaders)"
	default:
		return ""
	}
}

// matrix has what was tried, by queue and category.
type matrix map[string]map[string]bool

func (m matrix) add(queue, category string) {
	if m[queue] == nil {
		m[queue] = map[string]bool{}
	}
	m[queue][category] = true
}

// covers requires that every category that applies to the queue was tried.
func (m matrix) covers(t *testing.T, queue string, categories []string) {
	t.Helper()
	for _, category := range categories {
		require.Equal(t, notHere(queue, category) == "", m[queue][category], "%s on %s", category, queue)
	}
}

// everyType has a header of each type of AMQP 0-9-1, and headers of the broker itself with
// values that it would never write.
var everyType = amqp.Table{
	"bool": true, "int8": int8(-1), "byte": byte(1), "int16": int16(-1), "int32": int32(-1), "int64": int64(-1), "float32": float32(0.5), "float64": 0.5,
	"decimal": amqp.Decimal{Scale: 2, Value: 199}, "string": "\x00\xff", "bytes": []byte{0, 255}, "time": time.Unix(1, 0), "void": nil,
	"table": amqp.Table{"in": amqp.Table{"it": []any{int32(1)}}}, "array": []any{amqp.Table{"a": "b"}, nil, "c"}, "deep": nested(deepest - 1),
	"x-death": "not a list", "x-delivery-count": "many", "x-first-death-queue": int32(7), "dead-reason": []any{"forged"}, "rpc-deadline": "soon",
}

// hostileHeaders are for otherwise valid messages.
var hostileHeaders = []amqp.Table{
	everyType,
	{"x-delivery-count": int64(math.MaxInt64), "x-acquired-count": amqp.Table{"how": "often"}, "x-stream-offset": int64(-1), "channel": "webhook", "urgency": nil},
	{"x-delivery-count": int64(-7), "x-death": []any{"not a table", amqp.Table{"queue": int32(7), "reason": nil, "count": "many", "time": "never"}}},
	{"traceparent": "00-" + strings.Repeat("z", 5000), "tracestate": "=,=,;", "baggage": strings.Repeat("a=b,", 1000)},
	{"traceparent": amqp.Table{"not": "a text"}, "tracestate": []any{nil}, "dead-attempts": "none", "dead-user": int64(0), "rpc-error": true},
}

// deepest is how many nested tables the client library can read.
const deepest = 32

func nested(depth int) amqp.Table {
	if depth == 0 {
		return amqp.Table{}
	}
	return amqp.Table{"in": nested(depth - 1)}
}

// spoilers are for every queue whose messages a service decodes.
var spoilers = []spoiler{
	{"empty", func(m *amqp.Publishing) { m.Body = nil }, "unexpected end of JSON"},
	{"empty", func(m *amqp.Publishing) { m.Body = []byte("null") }, "undecodable"},
	{"empty", func(m *amqp.Publishing) { m.Body = []byte("{}") }, "undecodable"},
	{"huge", func(m *amqp.Publishing) { m.Body = []byte(strings.Repeat("x", 4<<20)) }, "invalid character"},
	{"truncated", func(m *amqp.Publishing) { m.Body = m.Body[:len(m.Body)/2] }, "unexpected end of JSON"},
	{"trailing", func(m *amqp.Publishing) { m.Body = append(m.Body, "{}"...) }, "after top-level value"},
	{"wrong type", func(m *amqp.Publishing) { m.Body = []byte("[1,2]") }, "cannot unmarshal array"},
	{"wrong type", func(m *amqp.Publishing) { m.Body = fields(m.Body, func(b map[string]any) { b[aText(b)] = 7 }) }, "cannot unmarshal number"},
	{"wrong version", func(m *amqp.Publishing) { m.Type = strings.TrimSuffix(m.Type, "1") + "2" }, "unknown message type"},
	{"wrong version", func(m *amqp.Publishing) { m.Type = "" }, "unknown message type"},
	{"wrong encoding", func(m *amqp.Publishing) { m.ContentType = "text/plain" }, "content type"},
	{"wrong encoding", func(m *amqp.Publishing) { m.ContentEncoding = "gzip" }, "content encoding"},
	{"bad UTF-8", func(m *amqp.Publishing) { m.Body = []byte(strings.Replace(string(m.Body), `": "`, "\": \"\xff", 1)) }, "not UTF-8"},
	{"deep JSON", func(m *amqp.Publishing) { m.Body = []byte(strings.Repeat(`{"a":[`, 100_000)) }, "max depth"},
}

// special are spoilers for some queues only.
var special = map[string][]spoiler{
	contract.BillingCharge.Name: join(withoutID, money("amount"), []spoiler{
		{"missing field", set("payment_token", ""), "payment_token: required"},
		{"missing field", set("payment_id", ""), "payment_id: required"},
		{"NUL", set("order_id", "a\x00b"), "invalid byte sequence"},
		{"NUL", set("payment_token", "tok_\x00ok"), "payment provider: 422"},
		{"unknown token", set("payment_token", "tok_broken"), "payment provider: 422"},
	}),
	contract.BillingRefund.Name: join(withoutID, money("amount"), []spoiler{
		{"missing field", set("order_id", ""), "order_id: required"},
		{"NUL", set("payment_id", "a\x00b"), "invalid byte sequence"},
	}),
	contract.OrdersExpire.Name: ofNoOrder,
	"orders.payments.0":        ofNoOrder,
	"orders.payments.1":        ofNoOrder,
	"orders.payments.2":        ofNoOrder,
	"orders.payments.3":        ofNoOrder,
	contract.NotifierOrders.Name: join(withoutID, money("total"), []spoiler{
		{"missing field", set("customer_id", ""), "customer_id is missing"},
		{"NUL", func(m *amqp.Publishing) { m.MessageId = "a\x00b" }, "invalid byte sequence"},
	}),
	contract.NotifierReceipts.Name: join(withoutID, money("amount"), []spoiler{
		{"missing field", set("payment_id", ""), "payment_id is missing"},
	}),
	contract.NotifierEmail.Name: {
		{"unknown template", set("template", "../../etc/passwd"), "template"},
		{"bad recipient", set("recipient", "nobody"), "address"},
		{"bad recipient", set("recipient", "a@example.com\r\nBcc: b@example.com"), "address"},
		{"NUL", set("dedupe_key", "a\x00b"), "invalid byte sequence"},
	},
	contract.NotifierWebhook.Name: {
		{"NUL", set("dedupe_key", "a\x00b"), "invalid byte sequence"},
	},
}

var withoutID = []spoiler{{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"}}

// ofNoOrder is for queues whose messages change orders.
var ofNoOrder = join(withoutID, []spoiler{
	{"unknown order", set("order_id", "01932b6e-7c00-7000-8000-0000000fffff"), "no such order"},
	{"unknown order", set("order_id", "no uuid; DROP TABLE orders"), "no such order"},
	{"NUL", set("order_id", "a\x00b"), "no such order"},
})

// money is for queues whose messages have an amount in this field.
func money(field string) []spoiler {
	amount := func(minor any, currency string) func(m *amqp.Publishing) {
		return set(field, map[string]any{"amount_minor": minor, "currency": currency})
	}
	return []spoiler{
		{"negative amount", amount(-1, "EUR"), field + ".amount_minor: must be above zero"},
		{"negative amount", amount(0, "EUR"), field + ".amount_minor: must be above zero"},
		{"number out of range", amount(1e30, "EUR"), "cannot unmarshal number"},
		{"unknown currency", amount(1, ""), field + ".currency"},
		{"unknown currency", amount(1, "EURO"), field + ".currency"},
		{"unknown currency", amount(1, "ZZZ"), field + ".currency"},
	}
}

func join(lists ...[]spoiler) []spoiler { return slices.Concat(lists...) }

func set(field string, value any) func(m *amqp.Publishing) {
	return func(m *amqp.Publishing) { m.Body = fields(m.Body, func(b map[string]any) { b[field] = value }) }
}

// fields changes the fields of a JSON object.
func fields(body []byte, change func(map[string]any)) []byte {
	var b map[string]any
	if err := json.Unmarshal(body, &b); err != nil {
		panic(err)
	}
	change(b)
	changed, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return changed
}

// aText is a field that every consumer of the message decodes as text.
func aText(b map[string]any) string {
	for _, name := range []string{"order_id", "dedupe_key", "sku"} {
		if _, ok := b[name]; ok {
			return name
		}
	}
	panic("no such field")
}
