package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// good is a message that the queue's service would accept, of an order that does not exist.
func good(t *testing.T, queue string) amqp.Publishing {
	t.Helper()
	body, err := contract.Fixture(kinds[queue].Name)
	require.NoError(t, err)
	return amqp.Publishing{
		MessageId: uuid.NewString(), Type: kinds[queue].Name, ContentType: "application/json", DeliveryMode: amqp.Persistent,
		UserId: contract.Operator, CorrelationId: "hostile", Body: body, // the operator may replay messages
	}
}

// A bad message is parked with its reason and has no effect.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	operator, stranger := s.as(contract.Operator), s.as("admin")
	tried := matrix{}
	s.expire(operator, tried)
	s.startAll()
	before := s.effects()

	wanted := map[string]spoiler{} // by row
	perQueue := map[string]int{}
	put := func(ch *amqp.Channel, queue string, m amqp.Publishing, row spoiler) {
		name := fmt.Sprintf("%s: %s (%d)", queue, row.category, len(wanted))
		m.Headers = amqp.Table{"row": name}
		wanted[name] = row
		perQueue[queue]++
		tried.add(queue, row.category)
		s.confirm(ch, m, queue)
	}
	for queue := range kinds {
		for _, row := range join(spoilers, special[queue]) {
			m := good(t, queue)
			row.spoil(&m)
			put(operator, queue, m, row)
		}
		m := good(t, queue)
		m.UserId = "admin"
		put(stranger, queue, m, spoiler{category: "stranger", reason: "untrusted source"})
		m = good(t, queue)
		m.UserId = "" // the broker accepts that
		put(stranger, queue, m, spoiler{category: "nobody", reason: "untrusted source"})
	}
	require.Greater(t, len(wanted), 60)

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

	// And all consumers work.
	o := s.place("ada", contract.TierExpress, "tok_ok")
	s.becomes(o.ID, "paid")
	require.Equal(t, http.StatusAccepted, s.cancel(o.ID))
	s.becomes(o.ID, "refunded")
	s.eventuallySame([]string{"Order " + o.ID + " is paid", "Receipt for order " + o.ID, "Refund for order " + o.ID}, func() []string { return s.subjects("ada") })
	s.eventuallySame([]string{"order-placed", "order-paid", "order-refunded"}, func() []string { return s.webhooks(o.ID) })

	s.repeat(operator, o, tried)
	for _, q := range contract.All(0).Queues {
		if q.DeadLetter == nil || q.DeadLetter.Exchange != contract.DeadLetters {
			continue
		}
		tried.covers(t, q.Name, categories)
		s.depth(q.Name, 0)
		s.depth(contract.DeadQueue(q.Name), 0)
	}
}

// expire lets valid messages expire in queues without consumers: the broker dead-letters them,
// whatever their headers say.
func (s *system) expire(operator *amqp.Channel, tried matrix) {
	s.t.Helper()
	for queue := range kinds {
		for _, headers := range append(hostileHeaders, nil) {
			m := good(s.t, queue)
			m.Expiration, m.Headers = "1", headers
			s.confirm(operator, m, queue)
			d := s.takeOne(operator, contract.DeadQueue(queue))
			require.Equal(s.t, m.MessageId, d.MessageId)
			require.Equal(s.t, m.Body, d.Body)
			deaths, _ := d.Headers["x-death"].([]any)
			require.NotEmpty(s.t, deaths)
			last, _ := deaths[0].(amqp.Table)
			require.Equal(s.t, "expired", last["reason"])
			require.Equal(s.t, queue, last["queue"])
		}
		tried.add(queue, "expired")
	}
}

// repeat publishes all messages of a refunded order again, with other bodies: the inbox drops
// them, whatever the bodies say.
func (s *system) repeat(operator *amqp.Channel, o orderView, tried matrix) {
	s.t.Helper()
	send := func(queue string, m amqp.Publishing) {
		acked := s.handled(queue, messaging.Acked)
		s.confirm(operator, m, queue)
		messagingtest.Eventually(s.t, 30*time.Second, func() (bool, string) {
			n := s.handled(queue, messaging.Acked)
			return n == acked+1, fmt.Sprintf("%s: %d, before %d", queue, n, acked)
		})
	}
	for queue := range kinds { // in each of these queues the order has an event that changes nothing
		if strings.HasPrefix(queue, "orders.") {
			m := good(s.t, queue)
			set("order_id", o.ID)(&m)
			send(queue, m)
		}
	}
	before := s.settled()
	for queue := range kinds {
		m := good(s.t, queue)
		switch queue {
		case contract.NotifierEmail.Name, contract.NotifierWebhook.Name:
			set("dedupe_key", "order-paid:"+o.ID)(&m)
		default:
			database, _, _ := strings.Cut(queue, ".")
			err := s.connect(database).QueryRow(s.t.Context(), `SELECT message_id FROM inbox WHERE queue = $1 LIMIT 1`, queue).Scan(&m.MessageId)
			require.NoError(s.t, err, queue)
		}
		send(queue, m)
		tried.add(queue, "duplicate id")
	}
	require.Equal(s.t, before, s.settled(), "nothing was effected")
}

// The queue of calls has no dead letters: a bad call is answered with an error, or dropped.
func TestHostileCalls(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 0)
	ch := s.as(contract.OrdersUser)
	replies, err := ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	require.NoError(t, err)
	items := func(list ...any) func(m *amqp.Publishing) { return set("items", list) }
	item := func(sku string, quantity any) map[string]any { return map[string]any{"sku": sku, "quantity": quantity} }
	const noAnswer, anAnswer = "no answer", ""
	twice := uuid.NewString()
	rows := []spoiler{
		{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo = "" }, noAnswer},
		{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo = "amq.gen-nobody" }, noAnswer},
		{"wrong reply-to", func(m *amqp.Publishing) { m.ReplyTo = "amq.rabbitmq.reply-to.forged" }, noAnswer},
		{"expired", func(m *amqp.Publishing) {
			m.Headers = amqp.Table{messaging.HeaderDeadline: time.Now().Add(-time.Second).UnixMilli()}
		}, noAnswer},
		{"expired", func(m *amqp.Publishing) { m.Headers = amqp.Table{messaging.HeaderDeadline: int64(-1)} }, noAnswer},
		{"nobody", func(m *amqp.Publishing) { m.UserId = "" }, contract.CodeNotAllowed},
		{"missing id", func(m *amqp.Publishing) { m.MessageId = "" }, anAnswer},
		{"duplicate id", func(m *amqp.Publishing) { m.MessageId = twice }, anAnswer}, // calls have no inbox
		{"duplicate id", func(m *amqp.Publishing) { m.MessageId = twice; items(item("no such thing", 1))(m) }, contract.CodeUnknownSKU},
		{"wrong version", func(m *amqp.Publishing) { m.Type = "pricing.quote.v2" }, contract.CodeUnknownType},
		{"empty", items(), contract.CodeInvalidRequest},
		{"negative amount", items(item("mug", -1)), contract.CodeInvalidRequest},
		{"number out of range", items(item("mug", 1e18)), contract.CodeInvalidRequest},
		{"wrong type", items(item("mug", "two")), contract.CodeInvalidRequest},
		{"unknown item", items(item("no such thing", 1)), contract.CodeUnknownSKU},
		{"NUL", items(item("a\x00b", 1)), contract.CodeUnknownSKU},
	}
	for _, row := range spoilers {
		switch row.category {
		case "wrong version":
		case "wrong type":
			rows = append(rows, spoiler{row.category, func(m *amqp.Publishing) { m.Body = []byte("[1,2]") }, contract.CodeInvalidRequest})
		default: // undecodable: answered with an error
			rows = append(rows, spoiler{row.category, row.spoil, contract.CodeInvalidRequest})
		}
	}
	for _, headers := range hostileHeaders {
		rows = append(rows, spoiler{"every header", func(m *amqp.Publishing) { m.Headers = headers }, anAnswer})
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
	tried, asked := matrix{}, map[string]spoiler{}
	// A call that expires while no server runs is dropped.
	row := spoiler{"expired", func(m *amqp.Publishing) { m.Expiration = "1" }, noAnswer}
	asked[call(contract.PricingQuote, contract.PricingQuoteProcedure.Route, []byte(`{"items": [{"sku": "mug", "quantity": 1}]}`), row.spoil)] = row
	s.depth(contract.PricingQuoteQueue.Name, 0)
	s.startPricing()
	answered := 0
	for _, row := range rows {
		tried.add(contract.PricingQuoteQueue.Name, row.category)
		asked[call(contract.PricingQuote, contract.PricingQuoteProcedure.Route, []byte(`{"items": [{"sku": "mug", "quantity": 1}]}`), row.spoil)] = row
		if row.reason != noAnswer {
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
	// The server works, and the other calls were not answered.
	good := call(contract.PricingCatalogue, contract.PricingCatalogueProcedure.Route, []byte("{}"), func(*amqp.Publishing) {})
	d := next()
	require.Equal(t, good, d.CorrelationId)
	require.NotContains(t, d.Headers, messaging.HeaderError)
	for _, row := range asked {
		require.Equal(t, noAnswer, row.reason, row.category)
	}
	s.depth(contract.PricingQuoteQueue.Name, 0)
	tried.covers(t, contract.PricingQuoteQueue.Name, slices.Concat(categories, harmless))
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

// confirm publishes a message to a queue and waits for the confirm.
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

// effects has all effects that messages can have, from all databases. A stored intent is not
// an effect.
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
