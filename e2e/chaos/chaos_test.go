package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/e2e/chaos/faults"
)

// A short drill: faults that take little time. Then the databases are changed, and the check
// must find each change.
func TestAShortDrill(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := settings{seed: 1, duration: 90 * time.Second, rate: 15, inspect: func(ctx context.Context, d *drill) error { return changeBooks(ctx, t, d) }}
	r, err := run(ctx, c, []line{
		At(5*time.Second, faults.BrokerKilled),
		At(20*time.Second, faults.KilledAfterCapture),
		At(26*time.Second, faults.KilledAfterConfirm),
		At(32*time.Second, faults.KilledAfterCommit),
		At(42*time.Second, faults.ConsumerTimeout),
		At(55*time.Second, faults.NetworkHalfOpen),
		At(80*time.Second, faults.ConnectionsClosed, faults.DatabaseKilled),
		At(88*time.Second, faults.Poisoned),
	})
	require.NoError(t, err)
	require.NoError(t, publish(r, ""))
	require.Empty(t, r.Findings)
	require.Greater(t, r.Accepted, 500)
	require.Equal(t, 11, r.Poison)
	require.Positive(t, r.Absorbed)
	require.GreaterOrEqual(t, len(r.Outcomes), 8)
}

// changeBooks changes the databases as losses and double effects would, and checks the books.
func changeBooks(ctx context.Context, t *testing.T, d *drill) error {
	t.Helper()
	before, err := d.source.Read(ctx, d.injector.Known())
	if err != nil {
		return err
	}
	var paid []string // and not express
	for id, o := range before.Orders {
		if o.Status == "paid" && !o.Express {
			paid = append(paid, id)
		}
	}
	slices.Sort(paid)
	var want []string
	for i, c := range []struct{ kinds, database, sql string }{
		{"lost", "orders", `DELETE FROM idempotency_keys WHERE order_id = '%[1]s'; DELETE FROM order_history WHERE order_id = '%[1]s'; DELETE FROM orders WHERE id = '%[1]s'`},
		{"stuck", "orders", `UPDATE orders SET status = 'placed' WHERE id = '%s'`},
		{"stuck", "orders", `UPDATE orders SET refund_open = true WHERE id = '%s'`},
		{"doubled", "sandbox", `INSERT INTO captures SELECT 'again', order_id, amount_minor, currency FROM captures WHERE order_id = '%s'`},
		{"doubled lost", "orders", `INSERT INTO orders SELECT gen_random_uuid(), customer_id, region, tier, 'declined', false, gen_random_uuid(), amount_minor, currency, items FROM orders WHERE id = '%s'`},
		{"lost", "billing", `UPDATE payments SET state = 'pending' WHERE order_id = '%s'`},
		{"wrong", "sandbox", `UPDATE captures SET amount_minor = amount_minor + 1 WHERE order_id = '%s'`},
		{"wrong", "orders", `UPDATE orders SET currency = 'USD' WHERE id = '%s'`},
		{"wrong", "billing", `DELETE FROM ledger USING payments WHERE id = payment_id AND order_id = '%s'`},
		{"lost", "sandbox", `DELETE FROM mails WHERE dedupe_key = 'order-paid:%s'`},
		{"lost", "orders", `DELETE FROM inbox WHERE message_id = (SELECT min(message_id) FROM inbox WHERE queue = 'orders.expire') AND '%s' <> ''`},
	} {
		want = append(want, strings.Fields(c.kinds)...)
		conn, err := d.stack.ChangeDatabase(ctx, c.database)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, fmt.Sprintf(c.sql, paid[i]))
		if closeErr := conn.Close(ctx); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.sql, err)
		}
	}
	after, err := d.source.Read(ctx, d.injector.Known())
	if err != nil {
		return err
	}
	if err := d.readMessages(ctx, &after); err != nil {
		return err
	}
	var got []string
	for _, f := range after.Check() {
		t.Log("planted:", f.Error())
		got = append(got, f.Kind)
	}
	require.ElementsMatch(t, want, got)
	return nil
}
