package transactional_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// fixture is a database with inbox, outbox and a table of effects.
type fixture struct {
	*transactional.DB
	logs *observer.ObservedLogs

	mu      sync.Mutex
	commits int
}

func setup(t *testing.T) *fixture {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	migrate(t.Context(), pool, inbox.VersionTable, inbox.Migrations)
	migrate(t.Context(), pool, outbox.VersionTable, outbox.Migrations)
	_, err = pool.Exec(t.Context(), `CREATE TABLE effects (message_id text, body text)`)
	require.NoError(t, err)
	core, logs := observer.New(zap.DebugLevel)
	f := &fixture{logs: logs}
	f.DB = transactional.New(pool, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.commits++
	}, zap.New(core))
	return f
}

// write is an effect: a row, and a message in the outbox.
func write(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery) error {
	if _, err := tx.Exec(ctx, `INSERT INTO effects VALUES ($1, $2)`, d.ID, string(d.Body)); err != nil {
		return err
	}
	m, err := messaging.NewMessage(messaging.MessageType{Name: "event.v1"}, d.ID)
	if err != nil {
		return err
	}
	return outbox.Add(ctx, tx, "key", messaging.Route{Key: "events"}, m)
}

func delivery(id, body string) *messaging.Delivery {
	return &messaging.Delivery{Queue: "q", Message: messaging.Message{ID: id, Body: []byte(body)}}
}

// requireRows checks the number of effects, of messages seen, and of messages to be sent.
func (f *fixture) requireRows(t *testing.T, effects, seen, waiting int) {
	t.Helper()
	var got [3]int
	require.NoError(t, f.Pool().QueryRow(t.Context(),
		`SELECT (SELECT count(*) FROM effects), (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox)`).Scan(&got[0], &got[1], &got[2]))
	require.Equal(t, [3]int{effects, seen, waiting}, got, "effects, inbox, outbox")
}

func TestACopyHasNoEffect(t *testing.T) {
	t.Parallel()
	f := setup(t)
	h := f.Handler(write)
	for range 3 {
		require.NoError(t, h.Handle(t.Context(), delivery("m-1", "")))
	}
	f.requireRows(t, 1, 1, 1)
	require.Equal(t, 1, f.commits, "a copy wakes nobody")
	require.Equal(t, 2, f.logs.FilterMessage("message was handled before, nothing to do").Len())

	other := delivery("m-1", "")
	other.Queue = "another"
	require.NoError(t, h.Handle(t.Context(), other), "each queue has its own effect")
	f.requireRows(t, 2, 2, 2)
}

func TestOneOfCopiesAtOnceHasAnEffect(t *testing.T) {
	t.Parallel()
	f := setup(t)
	h := f.Handler(write)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = h.Handle(t.Context(), delivery("m-1", "")) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	f.requireRows(t, 1, 1, 1)
	require.Equal(t, 1, f.commits)
}

func TestAFailureLeavesNoTrace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	failure := errors.New("failed")
	called := 0
	h := f.Handler(func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery) error {
		tx.OnCommit(func() { called++ })
		return errors.Join(write(ctx, tx, d), failure)
	})
	require.ErrorIs(t, h.Handle(t.Context(), delivery("m-1", "")), failure)
	f.requireRows(t, 0, 0, 0)
	require.Zero(t, f.commits)
	require.Zero(t, called)
	require.NoError(t, f.Handler(write).Handle(t.Context(), delivery("m-1", "")), "the next attempt is the first again")
	f.requireRows(t, 1, 1, 1)
}

func TestOnCommitSeesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var order []string
	require.NoError(t, f.Do(t.Context(), func(tx *transactional.Tx) error {
		for _, name := range []string{"first", "second"} {
			tx.OnCommit(func() {
				f.requireRows(t, 1, 0, 1)
				order = append(order, name)
			})
		}
		return write(t.Context(), tx, delivery("m-1", ""))
	}))
	require.Equal(t, []string{"first", "second"}, order)
	require.Equal(t, 1, f.commits)
}

// What an error means is as without a transaction; what PostgreSQL says has its verdict.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	f := setup(t)
	plain := errors.New("plain")
	sql := func(statement string) func(context.Context, *transactional.Tx, *messaging.Delivery) error {
		return func(ctx context.Context, tx *transactional.Tx, _ *messaging.Delivery) error {
			_, err := tx.Exec(ctx, statement)
			return err
		}
	}
	gives := func(err error) func(context.Context, *transactional.Tx, *messaging.Delivery) error {
		return func(context.Context, *transactional.Tx, *messaging.Delivery) error { return err }
	}
	for _, c := range []struct {
		name                   string
		id                     string
		effect                 func(context.Context, *transactional.Tx, *messaging.Delivery) error
		permanent, unavailable bool
	}{
		{"a plain error", "m-1", gives(plain), false, false},
		{"one that is permanent", "m-1", gives(messaging.Permanent(plain)), true, false},
		{"one that is unavailable", "m-1", gives(messaging.Unavailable(plain)), false, true},
		{"a value out of range", "m-1", sql(`SELECT 1000000::int2`), true, false},
		{"a table that is not there", "m-1", sql(`SELECT FROM nothing`), false, false},
		{"a server that ends the connection", "m-1", sql(`SELECT pg_terminate_backend(pg_backend_pid())`), false, true},
		{"no id", "", write, true, false},
		{"an id that cannot be kept", "a\x00b", write, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := f.Handler(c.effect).Handle(t.Context(), delivery(c.id, ""))
			require.Error(t, err)
			require.Equal(t, c.permanent, messaging.IsPermanent(err), err)
			require.Equal(t, c.unavailable, messaging.IsUnavailable(err), err)
		})
	}
	f.requireRows(t, 0, 0, 0)
}

func TestAnAbsentDatabase(t *testing.T) {
	t.Parallel()
	nobody, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/nothing")
	require.NoError(t, err)
	t.Cleanup(nobody.Close)
	err = transactional.New(nobody, nil, nil).Handler(write).Handle(t.Context(), delivery("m-1", ""))
	require.True(t, messaging.IsUnavailable(err), err)
}

func TestJSON(t *testing.T) {
	t.Parallel()
	f := setup(t)
	type body struct{ Name string }
	var got body
	h := transactional.JSON(f.DB, func(ctx context.Context, tx *transactional.Tx, d *messaging.Delivery, b body) error {
		got = b
		return write(ctx, tx, d)
	})
	err := h.Handle(t.Context(), delivery("m-1", `{`))
	require.ErrorIs(t, err, messaging.ErrUndecodable)
	require.True(t, messaging.IsPermanent(err))
	f.requireRows(t, 0, 0, 0)

	require.NoError(t, h.Handle(t.Context(), delivery("m-1", `{"Name":"ada"}`)))
	require.Equal(t, body{"ada"}, got)
	f.requireRows(t, 1, 1, 1)
}

func TestNilFunctionsAreNilHandlers(t *testing.T) {
	t.Parallel()
	db := transactional.New(nil, nil, nil)
	require.Nil(t, db.Handler(nil))
	require.Nil(t, db.Batch(nil))
	require.Nil(t, transactional.JSON[int](db, nil))
}
