package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Old idempotency keys are deleted, and their orders are kept.
func TestPruneKeys(t *testing.T) {
	t.Parallel()
	f := setup(t)
	o := f.place(t)
	_, err := f.Pool().Exec(t.Context(), `INSERT INTO idempotency_keys (customer_id, key, request_hash, order_id, created_at)
		SELECT 'c-1', 'key-' || n, '', $1, now() - make_interval(hours => n) FROM generate_series(1, 10) AS n`, o.ID)
	require.NoError(t, err)
	n, err := f.PruneKeys(t.Context(), 5*time.Hour+30*time.Minute)
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
	n, err = f.PruneKeys(t.Context(), 5*time.Hour+30*time.Minute)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, o.ID, f.find(t, o.ID).ID)
}
