package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/contract"
)

// oldTotals is more than the age of the management API's queue totals, 5 s.
const oldTotals = 6 * time.Second

// books are what everybody has written down: customers, orders, billing, the
// payment provider, the mailbox and the webhooks' receiver, the broker.
type books struct {
	accepted  []string            // orders that customers were told of, as they came
	gaveUp    int                 // customers who never were
	orders    map[string]order    // by id, of orders' database
	deadlines int                 // that have reached orders
	payments  map[string][]string // billing's, by order: payment, amount and state
	ledger    map[string][]string // billing's, by order: payment, amount and what moved
	captures  map[string][]string // the provider's, by order: payment and amount
	refunds   map[string][]string // the provider's, by order: payment and amount
	mails     map[string]int      // that arrived, by dedupe key
	webhooks  map[string]int      // that arrived, by dedupe key
	waiting   map[string]int      // messages in queues and outboxes that should be empty
	injected  map[string]poison   // by message id
	silent    map[string]bool     // orders whose charge the provider never answers

	// What is still there when nothing moves any more.
	dead   map[string][]deadLetter // by message id
	events map[event]int           // how often the audit stream has heard an event
}

type order struct {
	status     string
	express    bool
	refundOpen bool
	payment    string   // its payment and amount
	history    []string // every status that it had
}

// poison is a message that nobody can read.
type poison struct {
	queue  string        // where it was put
	at     time.Duration // when
	stored bool          // the broker has confirmed it; until then, nobody knows
}

type deadLetter struct{ queue, reason, order string }

// event is one that was announced of an order.
type event struct{ order, kind string }

// read reads what tells whether anything moves still.
func (d *run) read(ctx context.Context) (books, error) {
	b := books{accepted: d.load.accepted(), gaveUp: d.load.gaveUp, injected: d.injected, silent: d.silent, orders: map[string]order{}}
	var err error
	b.waiting, err = d.waiting(ctx)
	errs := []error{err}
	lists := func(database, sql string) map[string][]string {
		rows, err := d.system.lists(ctx, database, sql)
		errs = append(errs, err)
		return rows
	}
	counts := func(database, sql string) map[string]int {
		rows, err := d.system.counts(ctx, database, sql)
		errs = append(errs, err)
		return rows
	}
	b.deadlines = counts("orders", `SELECT 'seen', count(*)::text FROM inbox WHERE queue = '`+contract.OrdersExpire.Name+`'`)["seen"]
	b.payments = lists("billing", `SELECT order_id, concat_ws(' ', id, amount_minor, currency, state) FROM payments`)
	b.ledger = lists("billing", `SELECT order_id, concat_ws(' ', payment_id, l.amount_minor, l.currency, kind) FROM ledger l JOIN payments ON id = payment_id ORDER BY kind`)
	b.captures = lists("sandbox", `SELECT order_id, concat_ws(' ', payment_id, amount_minor, currency) FROM captures`)
	b.refunds = lists("sandbox", `SELECT order_id, concat_ws(' ', payment_id, amount_minor, currency) FROM refunds`)
	b.mails = counts("sandbox", `SELECT dedupe_key, count(*)::text FROM mails GROUP BY 1`)
	b.webhooks = counts("sandbox", `SELECT dedupe_key, count(*)::text FROM webhooks GROUP BY 1`)
	history := lists("orders", `SELECT order_id::text, status FROM order_history ORDER BY order_id, position`)
	for id, row := range lists("orders", `SELECT id::text, concat_ws(' ', status, tier, refund_open::text, payment_id, amount_minor, currency) FROM orders`) {
		words := strings.SplitN(row[0], " ", 4)
		b.orders[id] = order{status: words[0], express: words[1] == contract.TierExpress, refundOpen: words[2] == "true", payment: words[3], history: history[id]}
	}
	return b, errors.Join(errs...)
}

// waiting is how many messages are in queues and outboxes, where there are any and
// nobody but people is to take them out.
func (d *run) waiting(ctx context.Context) (map[string]int, error) {
	waiting := map[string]int{}
	queues, err := d.system.queues(ctx)
	errs := []error{err}
	for queue, n := range queues {
		if n > 0 && !isDead(queue) {
			waiting[queue] = n
		}
	}
	for _, service := range []string{"orders", "billing", "notifier"} {
		rows, err := d.system.counts(ctx, service, `SELECT 'waiting', count(*)::text FROM outbox`)
		errs = append(errs, err)
		if n := rows["waiting"]; n > 0 {
			waiting["the outbox of "+service] = n
		}
	}
	return waiting, errors.Join(errs...)
}

// isDead says whether messages wait in a queue for people.
func isDead(queue string) bool {
	return queue == contract.Unrouted || strings.HasSuffix(queue, contract.DeadQueue(""))
}

// readMessages reads the dead letters, whatever the totals say, and the audit stream.
func (d *run) readMessages(ctx context.Context, b *books) error {
	return poll(ctx, 2*time.Minute, func() error {
		b.dead, b.events = map[string][]deadLetter{}, map[event]int{}
		for _, q := range topology.Queues {
			if !isDead(q.Name) {
				continue
			}
			if err := d.readDead(q.Name, b.dead); err != nil {
				return fmt.Errorf("read %s: %w", q.Name, err)
			}
		}
		if err := d.readAudit(ctx, b.events); err != nil {
			return fmt.Errorf("read the audit stream: %w", err)
		}
		return nil
	})
}

// readDead looks at a dead-letter queue and leaves everything in it.
func (d *run) readDead(queue string, into map[string][]deadLetter) error {
	conn, ch, err := d.system.amqp()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives back what was looked at
	for {
		m, ok, err := ch.Get(queue, false)
		if err != nil || !ok {
			return err
		}
		reason, ok := m.Headers["dead-reason"].(string)
		if !ok {
			reason, _ = m.Headers["x-first-death-reason"].(string) // the broker itself put it there
		}
		into[m.MessageId] = append(into[m.MessageId], deadLetter{queue, reason, m.CorrelationId})
	}
}

// readAudit reads the audit stream from its beginning to now.
func (d *run) readAudit(ctx context.Context, into map[event]int) error {
	conn, ch, err := d.system.amqp()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	now := uuid.NewString()
	err = errors.Join(ch.Qos(1000, 0, false), ch.PublishWithContext(ctx, "", contract.Audit, true, false, amqp.Publishing{MessageId: now, DeliveryMode: amqp.Persistent}))
	if err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, contract.Audit, "", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if err != nil {
		return err
	}
	patience := time.After(2 * time.Minute)
	for {
		select {
		case m, ok := <-deliveries:
			if !ok {
				return errors.New("the broker ended it")
			}
			if m.MessageId == now {
				return nil
			}
			into[event{m.CorrelationId, m.Type}]++
			if err := m.Ack(false); err != nil {
				return err
			}
		case <-patience:
			return errors.New("it has no end")
		}
	}
}

// absorbed are the times at which services say that a message had no effect: it came
// again, or was overtaken. A deadline that passes after the payment always is.
func (d *run) absorbed(ctx context.Context) ([]time.Time, error) {
	out, err := d.system.script(ctx, fmt.Sprintf(`for service in orders billing notifier; do
		for c in $(docker ps -aq --filter label=com.docker.compose.project=%s --filter label=com.docker.compose.service=$service); do
			docker logs --timestamps $c 2>&1 | grep -E 'settled already|"first":false|"already sent"|event changed nothing' | grep -v 'payment deadline passed' | cut -d ' ' -f 1
		done
	done`, d.system.project))
	if err != nil {
		return nil, err
	}
	var times []time.Time
	for _, line := range strings.Fields(out) {
		at, err := time.Parse(time.RFC3339Nano, line)
		if err != nil {
			return nil, fmt.Errorf("read the logs: %w", err)
		}
		times = append(times, at)
	}
	return times, nil
}
