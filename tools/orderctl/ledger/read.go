package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

// Source connects to the systems with the records. Its functions may be called at any time,
// also while a server is down. Each method opens the connections that it needs and closes them.
type Source struct {
	// Database connects to "orders", "billing", "notifier" or "sandbox", with a role that
	// may read every table there.
	Database func(ctx context.Context, name string) (*pgx.Conn, error)
	// Broker connects as a user who may read the dead-letter queues and the audit stream,
	// and write to the default exchange.
	Broker func() (*amqp.Connection, error)
	// Messages returns how many messages each queue has, including those that are not
	// acknowledged. Streams may be left out.
	Messages func(ctx context.Context) (map[string]int, error)
	// Topology is the topology of the broker.
	Topology messaging.Topology
}

// Read reads all of Books but the dead letters and the events. With it, [Books.Moving] shows
// whether work is still going on.
func (s Source) Read(ctx context.Context, known Known) (Books, error) {
	b := Books{Known: known, Orders: map[string]Order{}}
	var err error
	b.Waiting, err = s.Waiting(ctx)
	errs := []error{err}
	lists := func(database, sql string) map[string][]string {
		rows, err := s.lists(ctx, database, sql)
		errs = append(errs, err)
		return rows
	}
	counts := func(database, sql string) map[string]int {
		rows, err := s.Counts(ctx, database, sql)
		errs = append(errs, err)
		return rows
	}
	b.Deadlines = counts("orders", `SELECT 'seen', count(*)::text FROM inbox WHERE queue = '`+contract.OrdersExpire.Name+`'`)["seen"]
	b.Payments = lists("billing", `SELECT order_id, concat_ws(' ', id, amount_minor, currency, state) FROM payments`)
	b.Ledger = lists("billing", `SELECT order_id, concat_ws(' ', payment_id, l.amount_minor, l.currency, kind) FROM ledger l JOIN payments ON id = payment_id ORDER BY kind`)
	b.Captures = lists("sandbox", `SELECT order_id, concat_ws(' ', payment_id, amount_minor, currency) FROM captures`)
	b.Refunds = lists("sandbox", `SELECT order_id, concat_ws(' ', payment_id, amount_minor, currency) FROM refunds`)
	b.Mails = counts("sandbox", `SELECT dedupe_key, count(*)::text FROM mails GROUP BY 1`)
	b.Webhooks = counts("sandbox", `SELECT dedupe_key, count(*)::text FROM webhooks GROUP BY 1`)
	history := lists("orders", `SELECT order_id::text, status FROM order_history ORDER BY order_id, position`)
	for id, row := range lists("orders", `SELECT id::text, concat_ws(' ', status, tier, refund_open::text, payment_id, amount_minor, currency) FROM orders`) {
		words := strings.SplitN(row[0], " ", 4)
		b.Orders[id] = Order{Status: words[0], Express: words[1] == contract.TierExpress, RefundOpen: words[2] == "true", Payment: words[3], History: history[id]}
	}
	return b, errors.Join(errs...)
}

// Waiting returns how many messages wait for a service, by queue and outbox; empty ones are
// left out. Dead-letter queues are left out too, since no service consumes them.
func (s Source) Waiting(ctx context.Context) (map[string]int, error) {
	waiting := map[string]int{}
	depths, err := s.Depths(ctx)
	errs := []error{err}
	for queue, n := range depths {
		if n > 0 && !isDead(queue) {
			waiting[queue] = n
		}
	}
	for _, service := range []string{"orders", "billing", "notifier"} {
		rows, err := s.Counts(ctx, service, `SELECT 'waiting', count(*)::text FROM outbox`)
		errs = append(errs, err)
		if n := rows["waiting"]; n > 0 {
			waiting["the outbox of "+service] = n
		}
	}
	return waiting, errors.Join(errs...)
}

// Depths returns how many messages are in each queue of the topology, without streams.
func (s Source) Depths(ctx context.Context) (map[string]int, error) {
	known, err := s.Messages(ctx)
	if err != nil {
		return nil, err
	}
	depths := map[string]int{}
	for _, q := range s.Topology.Queues {
		if q.Type == messaging.Stream {
			continue
		}
		n, ok := known[q.Name]
		if !ok {
			return nil, fmt.Errorf("the broker does not report the length of %s", q.Name)
		}
		depths[q.Name] = n
	}
	return depths, nil
}

// isDead says whether a queue has messages for operators, and not for a service.
func isDead(queue string) bool {
	return queue == contract.Unrouted || strings.HasSuffix(queue, contract.DeadQueue(""))
}

// Counts reads rows of a name and a number, as two columns of text, from a service's database.
func (s Source) Counts(ctx context.Context, database, sql string) (map[string]int, error) {
	rows, err := s.lists(ctx, database, sql)
	out := map[string]int{}
	for key, values := range rows {
		n, err := strconv.Atoi(values[0])
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", database, err)
		}
		out[key] = n
	}
	return out, err
}

// lists reads rows of a key and a value, as two columns of text, from a service's database, and
// returns the values of each key in the order of the rows.
func (s Source) lists(ctx context.Context, database, sql string) (map[string][]string, error) {
	conn, err := s.Database(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", database, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", database, err)
	}
	out := map[string][]string{}
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error { out[key] = append(out[key], value); return nil })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", database, err)
	}
	return out, nil
}
