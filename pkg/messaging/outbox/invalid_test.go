package outbox_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
)

func TestAnInvalidMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m, err := messaging.NewMessage(kind, 1)
	require.NoError(t, err)
	add := func(route messaging.Route, m messaging.Message) error {
		return pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
			return outbox.Add(t.Context(), tx, "key", route, m)
		})
	}
	for name, mutate := range map[string]func(*messaging.Route, *messaging.Message){
		"Message.ID":      func(_ *messaging.Route, m *messaging.Message) { m.ID = "" },
		"Route.Key":       func(r *messaging.Route, _ *messaging.Message) { r.Key = string(make([]byte, 256)) },
		"Message.Headers": func(_ *messaging.Route, m *messaging.Message) { m.Headers = map[string]any{"odd": struct{}{}} },
	} {
		route, bad := messaging.Route{Key: "events"}, m
		mutate(&route, &bad)
		err := add(route, bad)
		require.ErrorIs(t, err, messaging.ErrInvalid)
		require.ErrorContains(t, err, name)
	}

	// Rows that came from elsewhere are held back alone.
	for key, message := range map[string]string{"odd": `{"ID": "x", "Headers": {"odd": {"$odd": 1}}}`, "text": `"text"`} {
		_, err := f.pool.Exec(t.Context(), `INSERT INTO outbox (key, exchange, route, message) VALUES ($1, '', 'events', $2)`, key, message)
		require.NoError(t, err)
	}
	require.NoError(t, add(messaging.Route{Key: "events"}, m))
	f.relay(t, publisher(t, f.conn))
	messagingtest.Eventually(t, 20*time.Second, func() (bool, string) {
		waiting, held, err := outbox.Count(t.Context(), f.pool)
		require.NoError(t, err)
		return waiting == 2 && held == 2, fmt.Sprint(waiting, held)
	})
	var reason string
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT last_error FROM outbox WHERE key = 'odd'").Scan(&reason))
	require.Contains(t, reason, `unknown type "$odd"`)
}

// A message that PostgreSQL cannot store is refused before the statement, which would abort the
// caller's transaction.
func TestWhatPostgreSQLCannotKeep(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const zero, latin1 = "a\x00b", "caf\xe9"
	tx, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, bad := range []string{zero, latin1} {
		for name, spoil := range map[string]func(key *string, r *messaging.Route, m *messaging.Message){
			"key":                     func(key *string, _ *messaging.Route, _ *messaging.Message) { *key = bad },
			"Route.Exchange":          func(_ *string, r *messaging.Route, _ *messaging.Message) { r.Exchange = bad },
			"Route.Key":               func(_ *string, r *messaging.Route, _ *messaging.Message) { r.Key = bad },
			"Message.ID":              func(_ *string, _ *messaging.Route, m *messaging.Message) { m.ID = bad },
			"Message.Type":            func(_ *string, _ *messaging.Route, m *messaging.Message) { m.Type = bad },
			"Message.CorrelationID":   func(_ *string, _ *messaging.Route, m *messaging.Message) { m.CorrelationID = bad },
			"Message.ReplyTo":         func(_ *string, _ *messaging.Route, m *messaging.Message) { m.ReplyTo = bad },
			"Message.AppID":           func(_ *string, _ *messaging.Route, m *messaging.Message) { m.AppID = bad },
			"Message.UserID":          func(_ *string, _ *messaging.Route, m *messaging.Message) { m.UserID = bad },
			"Message.ContentType":     func(_ *string, _ *messaging.Route, m *messaging.Message) { m.ContentType = bad },
			"Message.ContentEncoding": func(_ *string, _ *messaging.Route, m *messaging.Message) { m.ContentEncoding = bad },
			"Message.Headers": func(_ *string, _ *messaging.Route, m *messaging.Message) {
				m.Headers = map[string]any{"list": []any{amqp.Table{"deep": bad}}}
			},
			"Message.Headers: the name": func(_ *string, _ *messaging.Route, m *messaging.Message) {
				m.Headers = map[string]any{"table": amqp.Table{bad: true}}
			},
		} {
			m, err := messaging.NewMessage(kind, 1)
			require.NoError(t, err)
			key, route := "key", messaging.Route{Key: "events"}
			spoil(&key, &route, &m)
			err = outbox.Add(t.Context(), tx, key, route, m)
			require.ErrorIs(t, err, messaging.ErrInvalid, "%s: %q", name, bad)
			require.ErrorContains(t, err, strings.TrimSuffix(name, ": the name"))
		}
	}
	m, err := messaging.NewMessage(kind, 1)
	require.NoError(t, err)
	require.ErrorIs(t, outbox.Add(t.Context(), tx, strings.Repeat("k", 1001), messaging.Route{Key: "events"}, m), messaging.ErrInvalid)
	m.Timestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	require.ErrorIs(t, outbox.Add(t.Context(), tx, "key", messaging.Route{Key: "events"}, m), messaging.ErrInvalid)

	// The transaction lives, and takes what is just possible.
	m.Timestamp = time.Now()
	require.NoError(t, outbox.Add(t.Context(), tx, strings.Repeat("é", 500), messaging.Route{Key: "not-there"}, m))
	require.NoError(t, tx.Commit(t.Context()))
	f.relay(t, publisher(t, f.conn))
	f.held(t, 1)
}

// Every header goes out with the type that it was added with, also through jsonb.
func TestHeadersKeepTheirTypes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	at := time.Now().Truncate(time.Second)
	m, err := messaging.NewMessage(kind, 1)
	require.NoError(t, err)
	m.CorrelationID, m.Expiration, m.Priority = "story", time.Hour, 7
	m.Headers = map[string]any{
		"string": "ü", "bool": true, "nil": nil, "double": 1.5, "int64": int64(9007199254740993), "int32": int32(-7), "int16": int16(7),
		"int8": int8(-7), "uint8": uint8(7), "uint16": uint16(7), "uint32": uint32(7), "float32": float32(0.1), "bytes": []byte{0, 255},
		"time": at, "list": []any{"a", int64(1), nil, []any{2.5}}, "table": amqp.Table{"deep": amqp.Table{"n": int64(1)}},
		"lookalike": amqp.Table{"$int64": "x"}, "none": amqp.Table{},
	}
	direct := m
	require.NoError(t, publisher(t, f.conn).Publish(t.Context(), messaging.Route{Key: "events"}, direct))
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		return outbox.Add(t.Context(), tx, "key", messaging.Route{Key: "events"}, m)
	}))
	f.relay(t, publisher(t, f.conn))
	f.empty(t)
	got := f.received(t, "events")
	require.Len(t, got, 2)
	require.True(t, at.Equal(got[1].Headers["time"].(time.Time)))
	require.Equal(t, got[0].Headers, got[1].Headers, "published directly, and by the outbox")
	for _, d := range got {
		require.Equal(t, "story", d.CorrelationId)
		require.Equal(t, "3600000", d.Expiration)
		require.EqualValues(t, 7, d.Priority)
		require.Equal(t, "1", string(d.Body))
	}
}

// Rows of the first version, in which headers were plain JSON, go out as they did.
func TestRowsOfTheFirstVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.pool.Exec(t.Context(), `INSERT INTO outbox (key, exchange, route, message) VALUES ('key', '', 'events',
		'{"ID": "old", "Type": "event.v1", "Body": "MQ==", "Headers": {"traceparent": "00-ab", "n": 3, "flag": true}, "Expiration": 0, "Timestamp": "2026-01-02T15:04:05Z"}')`)
	require.NoError(t, err)
	f.relay(t, publisher(t, f.conn))
	f.empty(t)
	got := f.received(t, "events")
	require.Len(t, got, 1)
	require.Equal(t, "old", got[0].MessageId)
	require.Equal(t, amqp.Table{"traceparent": "00-ab", "n": 3.0, "flag": true}, got[0].Headers)
}
