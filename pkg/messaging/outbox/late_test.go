package outbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
)

// freeze makes a queue "frozen" behind an exchange "cold", lets the publishers publish
// to it once, and halts it.
func (f *fixture) freeze(t *testing.T, publishers ...*messaging.Publisher) (thaw func()) {
	t.Helper()
	_, err := f.ch.QueueDeclare("frozen", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
	require.NoError(t, f.ch.ExchangeDeclare("cold", "fanout", true, false, false, false, nil))
	require.NoError(t, f.ch.QueueBind("frozen", "", "cold", false, nil))
	for _, pub := range publishers {
		m, err := messaging.NewMessage(kind, "the first")
		require.NoError(t, err)
		require.NoError(t, pub.Publish(t.Context(), messaging.Route{Key: "frozen"}, m))
	}
	require.Len(t, f.received(t, "frozen"), len(publishers))
	return f.broker.Freeze(t, "frozen")
}

func (f *fixture) held(t *testing.T, want int64) {
	t.Helper()
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		_, held, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return held == want, fmt.Sprint(held)
	})
}

// flow sends messages of other keys one after the other. With a round's timeout, 5 s,
// for each of them it would take much longer than allowed.
func (f *fixture) flow(t *testing.T, relay *outbox.Relay) {
	t.Helper()
	waiting := func() int64 {
		n, _, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return n
	}
	before, began := waiting(), time.Now()
	for n := range 20 {
		f.add(t, fmt.Sprint("key", n), "events", n)
		relay.Wake()
		messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
			now := waiting()
			return now == before, fmt.Sprintf("%d waiting, %d before", now, before)
		})
	}
	require.Less(t, time.Since(began), 40*time.Second)
	require.Len(t, f.received(t, "events"), 20)
}

func TestALateConfirmHoldsBackItsOwnKeyOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pub := publisher(t, f.conn)
	relay, _ := f.relay(t, pub)
	thaw := f.freeze(t, pub)
	late := f.add(t, "stuck", "frozen", 1)
	next := f.add(t, "stuck", "events", 2)
	f.flow(t, relay)
	f.held(t, 1)
	var reason string
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT last_error FROM outbox WHERE not_before IS NOT NULL").Scan(&reason))
	require.Contains(t, reason, "not confirmed")

	thaw()
	f.empty(t)
	got := f.received(t, "frozen")
	require.Len(t, got, 1, "sent once")
	require.Equal(t, late, got[0].MessageId)
	require.Equal(t, next, f.received(t, "events")[0].MessageId)
}

// A relay that is stopped while it waits for a confirm writes down that it is late.
func TestStopInARound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pub := publisher(t, f.conn)
	_, stop := f.relay(t, pub)
	f.freeze(t, pub)
	f.add(t, "stuck", "frozen", 1)
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		var rounds int
		require.NoError(t, f.pool.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE locktype = 'advisory' AND datname = current_database() AND state = 'idle in transaction'
				AND clock_timestamp() - xact_start > interval '100 ms'`).Scan(&rounds))
		return rounds == 1, fmt.Sprint(rounds, " rounds")
	})
	stop()
	_, held, err := outbox.Count(t.Context(), f.pool)
	require.NoError(t, err)
	require.EqualValues(t, 1, held)
}

// More late messages than the publisher has places, and than the broker takes for one
// queue without stopping the connection.
func TestManyLateConfirmsHoldBackTheirOwnKeysOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pub := publisher(t, f.conn)
	relay, _ := f.relay(t, pub)
	thaw := f.freeze(t, pub)
	const many = 1200
	add := func(from, to int) {
		t.Helper()
		require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
			for n := from; n < to; n++ {
				m, err := messaging.NewMessage(kind, n)
				if err != nil {
					return err
				}
				if err := outbox.Add(t.Context(), tx, fmt.Sprint("stuck", n), messaging.Route{Exchange: "cold"}, m); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	add(0, 1)
	f.held(t, 1)
	add(1, many)
	f.held(t, many)
	f.flow(t, relay)

	thaw()
	f.empty(t)
	ids := map[string]bool{}
	for _, d := range f.received(t, "frozen") {
		require.False(t, ids[d.MessageId], "sent twice")
		ids[d.MessageId] = true
	}
	require.Len(t, ids, many)
}

func TestALateConfirmThatIsLostIsPublishedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pub := publisher(t, f.conn)
	f.relay(t, pub)
	thaw := f.freeze(t, pub)
	late := f.add(t, "stuck", "frozen", 1)
	f.held(t, 1)
	f.broker.CloseAllConnections(t)
	thaw()
	f.empty(t)
	f.reopen(t) // ours was closed with the others
	got := f.received(t, "frozen")
	require.NotEmpty(t, got)
	for _, d := range got {
		require.Equal(t, late, d.MessageId)
	}
}

// Each relay must assume that the other one is gone, once.
func TestALateConfirmIsSentOnceByEachRelay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	one, two := publisher(t, f.conn), publisher(t, f.conn)
	_, stop := f.relay(t, one)
	thaw := f.freeze(t, one, two)
	f.add(t, "stuck", "frozen", 1)
	f.held(t, 1)
	relay, _ := f.relay(t, two)
	f.flow(t, relay)
	stop()
	thaw()
	f.empty(t)
	n := len(f.received(t, "frozen"))
	require.GreaterOrEqual(t, n, 1)
	require.LessOrEqual(t, n, 2)
}
