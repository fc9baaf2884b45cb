package inbox_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
)

func recordAll(t *testing.T, pool *pgxpool.Pool, queue string, ids ...string) (firsts []bool, err error) {
	t.Helper()
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		firsts, err = inbox.RecordAll(t.Context(), tx, queue, ids)
		return err
	})
	return firsts, err
}

func TestRecordAll(t *testing.T) {
	t.Parallel()
	pool := newInbox(t)
	for _, c := range []struct {
		name  string
		queue string
		ids   []string
		want  []bool
	}{
		{"none", "q", nil, []bool{}},
		{"new ones, in no order", "q", []string{"c", "a", "b"}, []bool{true, true, true}},
		{"old and new ones", "q", []string{"d", "a", "e", "c"}, []bool{true, false, true, false}},
		{"copies among them", "q", []string{"g", "f", "g", "a", "f", "g"}, []bool{true, true, false, false, false, false}},
		{"another queue", "other", []string{"a", "b"}, []bool{true, true}},
	} {
		got, err := recordAll(t, pool, c.queue, c.ids...)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got, c.name)
	}
}

func TestRecordAllRefuses(t *testing.T) {
	t.Parallel()
	pool := newInbox(t)

	// Before the statement: the transaction goes on.
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := inbox.RecordAll(t.Context(), tx, "q", []string{"a", "", "b"})
		require.ErrorIs(t, err, inbox.ErrNoID)
		require.True(t, messaging.IsPermanent(err))
		firsts, err := inbox.RecordAll(t.Context(), tx, "q", []string{"a", "b"})
		require.Equal(t, []bool{true, true}, firsts)
		return err
	}))

	_, err := recordAll(t, pool, "q", "c", "d\x00")
	require.True(t, messaging.IsPermanent(err), err)
	require.ErrorContains(t, err, "c and 1 more")
	firsts, err := recordAll(t, pool, "q", "c")
	require.NoError(t, err)
	require.Equal(t, []bool{true}, firsts, "nothing was written")
}

// Transactions that record the same messages in another order wait, without a deadlock.
func TestRecordAllInAnyOrderAtOnce(t *testing.T) {
	t.Parallel()
	pool := newInbox(t)
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = fmt.Sprintf("m-%03d", i)
	}
	backwards := slices.Clone(ids)
	slices.Reverse(backwards)
	const callers = 8
	firsts, errs := make([][]bool, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { firsts[i], errs[i] = recordAll(t, pool, "q", [][]string{ids, backwards}[i%2]...) })
	}
	wg.Wait()
	count := 0
	for i := range callers {
		require.NoError(t, errs[i])
		for _, first := range firsts[i] {
			if first {
				count++
			}
		}
	}
	require.Equal(t, len(ids), count, "each is the first once")
}
