package outbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
)

// put commits one message of a key to any route.
func (f *fixture) put(t *testing.T, key string, route messaging.Route, mutate func(*messaging.Message)) {
	t.Helper()
	m, err := messaging.NewMessage(kind, key)
	require.NoError(t, err)
	if mutate != nil {
		mutate(&m)
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		return outbox.Add(t.Context(), tx, key, route, m)
	}))
}

// requireHeld waits until just these keys wait, and all of them are held back for the reason.
func (f *fixture) requireHeld(t *testing.T, reason string, keys ...string) {
	t.Helper()
	messagingtest.Eventually(t, 60*time.Second, func() (bool, string) {
		rows, err := f.pool.Query(t.Context(), `SELECT key, coalesce(last_error, '') FROM outbox ORDER BY id`)
		require.NoError(t, err)
		type held struct{ Key, Error string }
		got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[held])
		require.NoError(t, err)
		ok := len(got) == len(keys)
		for i, h := range got {
			ok = ok && h.Key == keys[i] && strings.Contains(h.Error, reason)
		}
		return ok, fmt.Sprintf("%.400v", got)
	})
}

// missingExchange is an exchange that does not exist, and of which the broker cannot say
// so: its text is cut in the middle of a character, and it closes the connection (541).
var missingExchange = messaging.Route{Exchange: strings.Repeat("é", 115), Key: "k"}

func TestAMessageThatCostsTheConnectionIsHeldBackAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, "bad1", missingExchange, nil)
	f.put(t, "bad2", missingExchange, nil)
	f.put(t, "bad1", messaging.Route{Key: "events"}, nil)
	for n := range 100 {
		f.add(t, fmt.Sprint("key", n), "events", n)
	}
	f.relay(t, publisher(t, f.conn))
	messagingtest.Eventually(t, 60*time.Second, func() (bool, string) {
		waiting, held, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return waiting == 3 && held == 2, fmt.Sprintf("%d waiting, %d held back", waiting, held)
	})
	require.Len(t, f.received(t, "events"), 100, "each once")
	var errors int
	require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE last_error LIKE '%541%'`).Scan(&errors))
	require.Equal(t, 2, errors)
}

// Among many messages to one exchange is one over which the broker closes the channel,
// or the connection. The others leave.
func TestOneOfManyToAnExchangeIsHeldBackAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		user   string
		reason string
	}{
		"that costs the channel":    {"somebody else", "406"},
		"that costs the connection": {strings.Repeat("é", 100), "541"}, // the broker cannot say that it is not ours
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			require.NoError(t, f.ch.ExchangeDeclare("x", "fanout", true, false, false, false, nil))
			require.NoError(t, f.ch.QueueBind("events", "", "x", false, nil))
			ids := map[string]bool{}
			for n := range 60 {
				for _, route := range []messaging.Route{{Exchange: "x"}, {Key: "events"}} {
					f.put(t, fmt.Sprint("key", n, route.Exchange), route, func(m *messaging.Message) { ids[m.ID] = true })
				}
				if n == 20 || n == 40 {
					for _, route := range []messaging.Route{{Exchange: "x"}, {Key: "events"}} {
						f.put(t, fmt.Sprint("bad", n, route.Exchange), route, func(m *messaging.Message) { m.UserID = c.user })
					}
				}
			}
			f.relay(t, publisher(t, f.conn))
			f.requireHeld(t, c.reason, "bad20x", "bad20", "bad40x", "bad40")
			for _, d := range f.received(t, "events") {
				delete(ids, d.MessageId)
			}
			require.Empty(t, ids)
		})
	}
}

// The broker halts a channel that publishes for the first time to a queue without a
// leader.
func TestAHaltedChannelHoldsBackItsOwnMessagesOnly(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]messaging.Route{
		"by the default exchange": {Key: "frozen"},
		"by an exchange":          {Exchange: "cold"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			thaw := f.freeze(t)
			relay, _ := f.relay(t, publisher(t, f.conn))
			const many = 700 // more than a round takes
			require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
				for n := range many {
					m, err := messaging.NewMessage(kind, n)
					if err != nil {
						return err
					}
					if err := outbox.Add(t.Context(), tx, fmt.Sprint("stuck", n), route, m); err != nil {
						return err
					}
				}
				return nil
			}))
			f.held(t, many)
			f.flow(t, relay)
			thaw()
			f.empty(t)
			require.Len(t, f.received(t, "frozen"), many, "each once")
		})
	}
}

func TestARelayWithoutWhatItNeeds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.ErrorContains(t, outbox.NewRelay(nil, publisher(t, f.conn), nil).Run(t.Context()), "database")
	require.ErrorContains(t, outbox.NewRelay(f.pool, nil, nil).Run(t.Context()), "publisher")
	unconfirmed := publisher(t, f.conn, messaging.WithoutConfirms())
	require.ErrorContains(t, outbox.NewRelay(f.pool, unconfirmed, nil).Run(t.Context()), "confirms")

	relay := outbox.NewRelay(f.pool, publisher(t, f.conn), nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	f.put(t, "refused", messaging.Route{Exchange: "missing"}, nil) // which is logged
	f.requireHeld(t, "404", "refused")
	stop()
	require.NoError(t, <-done)
}

// More than a round takes into memory at once.
func TestLargeMessagesLeaveInSeveralRounds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const many = 50
	for n := range many {
		f.put(t, fmt.Sprint("key", n%20), messaging.Route{Key: "events"}, func(m *messaging.Message) { m.Body = make([]byte, 1<<20) })
	}
	f.relay(t, publisher(t, f.conn))
	f.empty(t)
	require.Len(t, f.received(t, "events"), many, "each once")
}
