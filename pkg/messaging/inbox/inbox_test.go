package inbox_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// newInbox is a database with the table inbox.
func newInbox(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	files, err := inbox.Migrations()
	require.NoError(t, err)
	db := stdlib.OpenDBFromPool(pool)
	defer func() { require.NoError(t, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	require.NoError(t, err)
	_, err = provider.Up(t.Context())
	require.NoError(t, err)
	return pool
}

func TestRecord(t *testing.T) {
	t.Parallel()
	pool := newInbox(t)
	record := func(t *testing.T, queue, id string) (first bool) {
		t.Helper()
		if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			first, err = inbox.Record(t.Context(), tx, queue, id)
			return err
		}); err != nil {
			t.Error(err)
		}
		return first
	}
	t.Run("one effect among concurrent copies", func(t *testing.T) {
		var firsts atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if record(t, "q", "same") {
					firsts.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, firsts.Load())
	})
	t.Run("each queue has its own effect", func(t *testing.T) {
		require.True(t, record(t, "a", "id"))
		require.True(t, record(t, "b", "id"))
	})
	t.Run("a rolled back effect was not seen", func(t *testing.T) {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		first, err := inbox.Record(t.Context(), tx, "q", "rolled back")
		require.NoError(t, err)
		require.True(t, first)
		require.NoError(t, tx.Rollback(t.Context()))
		require.True(t, record(t, "q", "rolled back"))
	})
	t.Run("a message without an id", func(t *testing.T) {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := inbox.Record(t.Context(), tx, "q", "")
			return err
		})
		require.ErrorIs(t, err, inbox.ErrNoID)
		require.True(t, messaging.IsPermanent(err))
	})
	t.Run("prune forgets the old", func(t *testing.T) {
		require.True(t, record(t, "q", "old"))
		n, err := inbox.Prune(t.Context(), pool, time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = inbox.Prune(t.Context(), pool, 0)
		require.NoError(t, err)
		require.True(t, record(t, "q", "old"))
	})
}
