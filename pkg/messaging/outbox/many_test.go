package outbox_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/outbox"
)

// entries are many messages of three keys, of which each has its number as its body.
func entries(t *testing.T, n int) []outbox.Entry {
	t.Helper()
	list := make([]outbox.Entry, n)
	for i := range list {
		m, err := messaging.NewMessage(kind, i)
		require.NoError(t, err)
		m.CorrelationID = fmt.Sprint("key", i%3)
		m.Headers = map[string]any{"n": int32(i)}
		list[i] = outbox.Entry{Key: m.CorrelationID, Route: messaging.Route{Key: "events"}, Message: m}
	}
	return list
}

func TestAddAll(t *testing.T) {
	t.Parallel()
	f := setup(t)
	list := entries(t, 100)
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		return outbox.AddAll(t.Context(), tx, list)
	}))
	rows, err := f.pool.Query(t.Context(), `SELECT message->>'ID' FROM outbox ORDER BY id`)
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for i, e := range list {
		require.Equal(t, e.Message.ID, ids[i], "the order of ids is the order here")
	}

	p, err := f.conn.Publisher()
	require.NoError(t, err)
	f.relay(t, p)
	f.empty(t)
	next := map[string]int{"key0": 0, "key1": 1, "key2": 2}
	all := f.received(t, "events")
	require.Len(t, all, len(list))
	for _, d := range all {
		require.Equal(t, fmt.Sprint(next[d.CorrelationId]), string(d.Body), "each key's messages leave in order")
		require.Equal(t, amqp.Table{"n": int32(next[d.CorrelationId])}, d.Headers)
		next[d.CorrelationId] += 3
	}
}

// If one message cannot be sent none is added, and no statement is executed.
func TestAddAllWithAnInvalidMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	list := entries(t, 3)
	bad := entries(t, 3)
	bad[1].Message.Headers = amqp.Table{"odd": struct{}{}}
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		err := outbox.AddAll(t.Context(), tx, bad)
		require.ErrorIs(t, err, messaging.ErrInvalid)
		require.ErrorContains(t, err, bad[1].Message.ID)
		require.NoError(t, outbox.AddAll(t.Context(), tx, nil))
		return outbox.AddAll(t.Context(), tx, list) // the transaction goes on
	}))
	waiting, _, err := outbox.Count(t.Context(), f.pool)
	require.NoError(t, err)
	require.EqualValues(t, 3, waiting)
}
