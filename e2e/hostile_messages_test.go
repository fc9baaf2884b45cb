package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// A spoiler takes a good message and makes one thing of it bad.
type spoiler struct {
	category string
	spoil    func(m *amqp.Publishing)
	reason   string // a part of the dead letter's
}

// kinds are the types that the queues are for; every other of a queue's is read the same way.
var kinds = map[string]messaging.MessageType{
	contract.BillingCharge.Name:    contract.Charge,
	contract.BillingRefund.Name:    contract.Refund,
	contract.OrdersExpire.Name:     contract.PaymentDeadline,
	"orders.payments.0":            contract.PaymentCaptured,
	"orders.payments.3":            contract.PaymentDeclined,
	contract.NotifierOrders.Name:   contract.OrderPaid,
	contract.NotifierReceipts.Name: contract.PaymentRefunded,
	contract.NotifierEmail.Name:    contract.NotificationType,
	contract.NotifierWebhook.Name:  contract.NotificationType,
}

// everyType has a header of each type that AMQP 0-9-1 has here, and some that the
// broker itself writes, with what it would never write.
var everyType = amqp.Table{
	"bool": true, "int8": int8(-1), "byte": byte(1), "int16": int16(-1), "int32": int32(-1), "int64": int64(-1), "float32": float32(0.5), "float64": 0.5,
	"decimal": amqp.Decimal{Scale: 2, Value: 199}, "string": "\x00\xff", "bytes": []byte{0, 255}, "time": time.Unix(1, 0), "void": nil,
	"table": amqp.Table{"in": amqp.Table{"it": []any{int32(1)}}}, "array": []any{amqp.Table{"a": "b"}, nil, "c"},
	"x-death": "not a list", "x-delivery-count": "many", "x-first-death-queue": int32(7), "dead-reason": []any{"forged"}, "rpc-deadline": "soon",
}

// spoilers fit every queue whose messages a service decodes.
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
	{"every header", func(m *amqp.Publishing) { m.Headers, m.Body = maps.Clone(everyType), nil }, "unexpected end of JSON"},
	{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo, m.Body = "amq.gen-nobody", nil }, "unexpected end of JSON"},
}

// special are spoilers that fit some queues only.
var special = map[string][]spoiler{
	contract.BillingCharge.Name: append(spoiledMoney,
		spoiler{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"},
		spoiler{"missing field", set("payment_token", ""), "payment_token: required"},
		spoiler{"missing field", set("payment_id", ""), "payment_id: required"},
		spoiler{"NUL", set("order_id", "a\x00b"), "invalid byte sequence"},
		spoiler{"NUL", set("payment_token", "tok_\x00ok"), "refused"},
		spoiler{"unknown token", set("payment_token", "tok_broken"), "refused"},
	),
	contract.BillingRefund.Name: append(spoiledMoney,
		spoiler{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"},
		spoiler{"missing field", set("order_id", ""), "order_id: required"},
		spoiler{"NUL", set("payment_id", "a\x00b"), "invalid byte sequence"},
	),
	contract.OrdersExpire.Name: {
		{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"},
		{"unknown order", set("order_id", "01932b6e-7c00-7000-8000-0000000fffff"), "no such order"},
		{"unknown order", set("order_id", "no uuid; DROP TABLE orders"), "no such order"},
		{"NUL", set("order_id", "a\x00b"), "no such order"},
	},
	"orders.payments.0": {
		{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"},
		{"unknown order", set("order_id", "01932b6e-7c00-7000-8000-0000000fffff"), "no such order"},
		{"unknown order", set("order_id", "../../etc/passwd"), "no such order"},
	},
	contract.NotifierOrders.Name: {
		{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"},
		{"missing field", set("customer_id", ""), "customer_id is missing"},
		{"NUL", func(m *amqp.Publishing) { m.MessageId = "a\x00b" }, "invalid byte sequence"},
	},
	contract.NotifierReceipts.Name: {
		{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, "without an id"},
		{"missing field", set("payment_id", ""), "payment_id is missing"},
	},
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

// spoiledMoney is for commands that move money.
var spoiledMoney = []spoiler{
	{"negative amount", amount(-1, "EUR"), "amount.amount_minor: must be above zero"},
	{"negative amount", amount(0, "EUR"), "amount.amount_minor: must be above zero"},
	{"number out of range", func(m *amqp.Publishing) { m.Body = []byte(strings.Replace(string(m.Body), "4397", "1e30", 1)) }, "cannot unmarshal number"},
	{"unknown currency", amount(1, ""), "amount.currency"},
	{"unknown currency", amount(1, "EURO"), "amount.currency"},
}

func set(field string, value any) func(m *amqp.Publishing) {
	return func(m *amqp.Publishing) { m.Body = fields(m.Body, func(b map[string]any) { b[field] = value }) }
}

func amount(minor int64, currency string) func(m *amqp.Publishing) {
	return set("amount", contract.Money{AmountMinor: minor, Currency: currency})
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

// aText is a field that every consumer of the message reads as a text.
func aText(b map[string]any) string {
	for _, name := range []string{"order_id", "dedupe_key"} {
		if _, ok := b[name]; ok {
			return name
		}
	}
	panic("no such field")
}

// good is a message that the queue's service would take, of an order that nobody has placed.
func good(t *testing.T, queue string) amqp.Publishing {
	t.Helper()
	body, err := contract.Fixture(kinds[queue].Name)
	require.NoError(t, err)
	return amqp.Publishing{
		MessageId: uuid.NewString(), Type: kinds[queue].Name, ContentType: "application/json", DeliveryMode: amqp.Persistent,
		UserId: contract.Operator, CorrelationId: "hostile", Body: body, // the operator may put messages back into queues
	}
}

// What a bad message is: it dies with its reason, and nothing else happens.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startAll()
	before := s.effects()
	operator, stranger := s.as(contract.Operator), s.as("admin")

	wanted := map[string]spoiler{} // by row
	perQueue, perCategory := map[string]int{}, map[string]int{}
	put := func(ch *amqp.Channel, queue string, m amqp.Publishing, row spoiler) {
		name := fmt.Sprintf("%s: %s (%d)", queue, row.category, len(wanted))
		m.Headers = maps.Clone(m.Headers)
		if m.Headers == nil {
			m.Headers = amqp.Table{}
		}
		m.Headers["row"] = name
		wanted[name] = row
		perQueue[queue]++
		perCategory[row.category]++
		s.confirm(ch, m, queue)
	}
	for queue := range kinds {
		for _, row := range append(slices.Clone(spoilers), special[queue]...) {
			m := good(t, queue)
			row.spoil(&m)
			put(operator, queue, m, row)
		}
		m := good(t, queue)
		m.UserId = "admin"
		put(stranger, queue, m, spoiler{category: "stranger", reason: "untrusted source"})
		m = good(t, queue)
		m.UserId = "" // the broker lets that pass
		put(stranger, queue, m, spoiler{category: "nobody", reason: "untrusted source"})
	}
	require.Greater(t, len(wanted), 60)
	require.Len(t, perQueue, len(kinds))
	for _, category := range []string{
		"empty", "huge", "wrong type", "wrong version", "wrong encoding", "bad UTF-8", "deep JSON", "missing id",
		"unknown currency", "negative amount", "every header", "wrong reply-to", "stranger",
	} {
		require.Positive(t, perCategory[category], category)
	}

	for queue := range kinds {
		for range perQueue[queue] {
			d := s.takeOne(operator, queue+".dead")
			name, _ := d.Headers["row"].(string)
			row, ok := wanted[name]
			require.True(t, ok, "%s died in %s without a row, or twice", name, queue)
			delete(wanted, name)
			require.True(t, strings.HasPrefix(name, queue+":"), "%s died in %s", name, queue)
			reason, _ := d.Headers[messaging.HeaderDeadReason].(string)
			if !strings.Contains(reason, row.reason) {
				t.Errorf("%s died of %q, and not of %q", name, reason, row.reason)
			}
			require.NotEmpty(t, d.MessageId, name)
		}
	}
	require.Empty(t, wanted)
	require.Equal(t, before, s.effects(), "nothing was effected")

	// And everybody is alive.
	o := s.place("ada", contract.TierExpress, "tok_ok")
	s.becomes(o.ID, "paid")
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		_, mails := s.get("http://" + s.sandbox.Addr() + "/v1/mails?to=ada@example.com")
		return strings.Contains(mails, "Receipt for order "+o.ID), mails
	})
	for queue := range kinds {
		s.depth(queue, 0)
	}

	// An id that was seen, with another body: absorbed, whatever it says.
	before = s.effects()
	for _, twin := range []struct{ database, queue, like string }{
		{"billing", contract.BillingCharge.Name, contract.BillingCharge.Name},
		{"orders", s.shardOf(o.ID), "orders.payments.0"},
		{"notifier", contract.NotifierReceipts.Name, contract.NotifierReceipts.Name},
	} {
		m, queue := good(t, twin.like), twin.queue
		err := s.connect(twin.database).QueryRow(t.Context(), `SELECT message_id FROM inbox WHERE queue = $1 LIMIT 1`, queue).Scan(&m.MessageId)
		require.NoError(t, err, queue)
		s.confirm(operator, m, queue)
		s.depth(queue, 0)
	}
	messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
		n := s.logs.FilterMessage("nothing to do, message is settled already").Len()
		return n == 1, fmt.Sprint(n)
	})
	require.Equal(t, before, s.effects(), "nothing was effected")
	for queue := range kinds {
		s.depth(queue+".dead", 0)
	}
}

// shardOf is the queue that an order's payment events were in.
func (s *system) shardOf(orderID string) string {
	s.t.Helper()
	entries := s.logs.FilterMessage("event applied").FilterField(zap.String("order_id", orderID)).All()
	require.NotEmpty(s.t, entries)
	var queue string
	err := s.connect("orders").QueryRow(s.t.Context(), `SELECT queue FROM inbox WHERE message_id = $1`, entries[0].ContextMap()["message_id"]).Scan(&queue)
	require.NoError(s.t, err)
	return queue
}

// The queue of calls has no dead letters: who calls badly is told, or is not heard.
func TestHostileCalls(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	s.startPricing()
	s.startOrders()
	ch := s.as(contract.OrdersUser)
	replies, err := ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	require.NoError(t, err)
	request, err := contract.Fixture(contract.Quote.Name)
	require.NoError(t, err)
	items := func(list ...any) func(m *amqp.Publishing) { return set("items", list) }
	item := func(sku string, quantity any) map[string]any { return map[string]any{"sku": sku, "quantity": quantity} }
	const silence = ""
	rows := []spoiler{
		{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo = "" }, silence},
		{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo = "amq.gen-nobody" }, silence},
		{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo = "amq.rabbitmq.reply-to.forged" }, silence},
		{"expired", func(m *amqp.Publishing) {
			m.Headers = amqp.Table{messaging.HeaderDeadline: time.Now().Add(-time.Second).UnixMilli()}
		}, silence},
		{"expired", func(m *amqp.Publishing) { m.Headers = amqp.Table{messaging.HeaderDeadline: int64(-1)} }, silence},
		{"nobody", func(m *amqp.Publishing) { m.UserId = "" }, silence},
		{"wrong version", func(m *amqp.Publishing) { m.Type = "pricing.quote.v2" }, silence},
		{"empty", items(), contract.CodeInvalidRequest},
		{"negative amount", items(item("mug", -1)), contract.CodeInvalidRequest},
		{"number out of range", items(item("mug", 1e18)), contract.CodeInvalidRequest},
		{"wrong type", items(item("mug", "two")), contract.CodeInvalidRequest},
		{"unknown item", items(item("no such thing", 1)), contract.CodeUnknownSKU},
		{"NUL", items(item("a\x00b", 1)), contract.CodeUnknownSKU},
	}
	for _, row := range spoilers {
		switch row.category {
		case "wrong version", "wrong reply-to":
		case "wrong type":
			rows = append(rows, spoiler{row.category, func(m *amqp.Publishing) { m.Body = []byte("[1,2]") }, contract.CodeInvalidRequest})
		default: // undecodable: whoever asks is told
			rows = append(rows, spoiler{row.category, row.spoil, contract.CodeInvalidRequest})
		}
	}
	call := func(kind messaging.MessageType, route messaging.Route, body []byte, spoil func(*amqp.Publishing)) string {
		m := amqp.Publishing{
			MessageId: uuid.NewString(), CorrelationId: uuid.NewString(), Type: kind.Name, ContentType: "application/json",
			UserId: contract.OrdersUser, ReplyTo: "amq.rabbitmq.reply-to", Body: body,
		}
		spoil(&m)
		require.NoError(t, ch.PublishWithContext(t.Context(), route.Exchange, route.Key, true, false, m))
		return m.CorrelationId
	}
	asked := map[string]spoiler{}
	answered := 0
	for _, row := range rows {
		asked[call(contract.Quote, contract.QuoteProcedure.Route, request, row.spoil)] = row
		if row.reason != silence {
			answered++
		}
	}
	next := func() amqp.Delivery {
		select {
		case d := <-replies:
			return d
		case <-time.After(20 * time.Second):
			require.FailNow(t, "nobody answers any more")
			panic("not reached")
		}
	}
	for range answered {
		d := next()
		row, ok := asked[d.CorrelationId]
		require.True(t, ok, "an answer to nobody, or a second one")
		delete(asked, d.CorrelationId)
		if code, _ := d.Headers[messaging.HeaderError].(string); code != row.reason {
			t.Errorf("%s: the answer is %q, and not %q", row.category, code, row.reason)
		}
	}
	// Everybody is alive, and the others were not answered.
	good := call(contract.Catalogue, contract.CatalogueProcedure.Route, []byte("{}"), func(*amqp.Publishing) {})
	d := next()
	require.Equal(t, good, d.CorrelationId)
	require.NotContains(t, d.Headers, messaging.HeaderError)
	for _, row := range asked {
		require.Equal(t, silence, row.reason, row.category)
	}
	s.depth(contract.PricingQuote.Name, 0)
}

// as is a channel of a broker user.
func (s *system) as(user string) *amqp.Channel {
	s.t.Helper()
	url := s.broker.WithUser(s.t, user, password)
	if user == "admin" {
		url = s.broker.URL
	}
	conn, err := amqp.Dial(url)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(s.t, err)
	require.NoError(s.t, ch.Confirm(false))
	return ch
}

// confirm puts a message into a queue and waits until the broker has it.
func (s *system) confirm(ch *amqp.Channel, m amqp.Publishing, queue string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	confirmation, err := ch.PublishWithDeferredConfirm("", queue, true, false, m)
	require.NoError(s.t, err)
	stored, err := confirmation.WaitContext(ctx)
	require.NoError(s.t, err)
	require.True(s.t, stored)
}

// effects is everything that messages can bring about, in everybody's books. An
// intent is none: it says what somebody wanted.
func (s *system) effects() map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for database, tables := range map[string][]string{
		"orders":   {"orders", "outbox", "inbox"},
		"billing":  {"payments WHERE state <> 'pending'", "ledger", "outbox", "inbox"},
		"notifier": {"sent", "outbox", "inbox"},
		"sandbox":  {"captures", "refunds", "mails", "webhooks"},
	} {
		db := s.connect(database)
		for _, table := range tables {
			var n int
			require.NoError(s.t, db.QueryRow(s.t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
			out[database+": "+table] = n
		}
	}
	return out
}
