package postgres

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/internal/order"
)

func migrated(t *testing.T) (pool *pgxpool.Pool, url string) {
	t.Helper()
	url = messagingtest.Database(t)
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, service.Migrate(t.Context(), pool,
		service.Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations},
		service.Migrations{VersionTable: inbox.VersionTable, Files: inbox.Migrations},
		service.Migrations{VersionTable: "orders_version", Files: Migrations}))
	return pool, url
}

// After some executions, a prepared statement may get a generic plan for all values.
func TestGenericPlansUseAnIndex(t *testing.T) {
	t.Parallel()
	pool, _ := migrated(t)
	for _, c := range []struct{ sql, index, condition string }{
		{selectOne, "orders_pkey", "(id = $1)"},
		{selectPage, "orders_pkey", "(id < $1)"},
		{selectPageOfStatus, "orders_status", "((status = $1) AND (id < $2))"},
	} {
		text := genericPlan(t, pool, c.sql)
		require.Contains(t, text, c.index+" on orders", c.sql)
		require.Contains(t, text, "Index Cond: "+c.condition, c.sql)
		require.NotContains(t, text, "Filter:", c.sql)
	}
}

// genericPlan returns PostgreSQL's plan for a statement with any parameters. On an empty table
// all plans have nearly the same cost, so other plans than index scans are made expensive.
func genericPlan(t *testing.T, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	results, err := conn.Conn().PgConn().Exec(t.Context(),
		`BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; EXPLAIN (GENERIC_PLAN) `+sql+`; ROLLBACK`).ReadAll()
	require.NoError(t, err)
	var plan strings.Builder
	for _, result := range results {
		for _, row := range result.Rows {
			plan.Write(append(row[0], '\n'))
		}
	}
	return plan.String()
}

// between calls a function after each statement that reads orders.
type between struct {
	statements atomic.Int32
	do         func()
}

func (b *between) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (b *between) TraceQueryEnd(_ context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	b.statements.Add(1)
	b.do()
}

// The status of an order is always the last one of its history, also when the order changes
// while it is read.
func TestStatusAndHistoryAreOfOneMoment(t *testing.T) {
	t.Parallel()
	pool, url := migrated(t)
	store := NewStore(transactional.New(pool, nil, nil))
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	tracer := &between{do: func() {}}
	config.ConnConfig.Tracer = tracer
	reading, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(reading.Close)
	require.NoError(t, reading.Ping(t.Context()))

	o, err := order.New(order.Request{CustomerID: "ada", Region: contract.RegionEU, Tier: contract.TierStandard,
		Items: []order.Item{{SKU: "mug", Quantity: 1}}}, contract.Money{AmountMinor: 1, Currency: contract.Currency}, time.Now())
	require.NoError(t, err)
	_, _, err = store.Place(t.Context(), o, nil, "", nil)
	require.NoError(t, err)
	tracer.do = func() {
		event := order.PaymentCaptured
		if tracer.statements.Load() > 2 {
			event = order.PaymentRefunded
		}
		if err := store.Do(context.Background(), func(tx *transactional.Tx) error {
			_, _, err := store.Settle(context.Background(), tx, o.ID, event, "")
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		got, err := NewStore(transactional.New(reading, nil, nil)).Find(t.Context(), o.ID)
		require.NoError(t, err)
		require.Equal(t, got.Status, got.History[len(got.History)-1].Status)
	}
}
